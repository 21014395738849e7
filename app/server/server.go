package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"
)

const (
	// headerLimit is how long a client may take to send a request's headers, and idleLimit how long a kept-alive
	// connection may wait for its next request.
	headerLimit = 20 * time.Second
	idleLimit   = 2 * time.Minute
	// headerBytes bounds a request's line and headers.
	headerBytes = 16 << 10
)

// Config is what a Server is made of. Zero values mean the defaults.
type Config struct {
	Log *slog.Logger
	// TrustedProxies are whose X-Forwarded-For and X-Request-Id are believed.
	TrustedProxies []netip.Prefix
	// Origins may open WebSockets besides pages of the same host; "https://app.example.com".
	Origins []string
	// MaxConnections is how many connections may be open; further ones get a short 503. Default 4096.
	MaxConnections int
	// Heartbeat is how often a quiet stream says that it lives. Default 15 s.
	Heartbeat time.Duration
	// ReadIdle bounds one read of a body and WriteIdle one write of an answer. Default 30 s each.
	ReadIdle  time.Duration
	WriteIdle time.Duration
	// DrainFor is how long a refused body is read off. Default 15 s.
	DrainFor time.Duration
	// Observe is told of every answered request; nil for nobody.
	Observe func(Observation)
	// Now and NewID default to the clock and random UUIDs.
	Now   func() time.Time
	NewID func() string
}

// Observation is one answered request, for metrics. Route is the pattern, never the URL.
type Observation struct {
	Method, Route string
	Status        int
	Took          time.Duration
}

// Server is the HTTP server. Register routes on App, then Serve.
type Server struct {
	Config
	// App takes routes and middleware.
	App *fiber.App

	inner fasthttp.RequestHandler
	// ctx is the parent of every request's context; it ends when Shutdown's time is up. streams ends at the beginning
	// of Shutdown.
	ctx         context.Context
	cancel      context.CancelFunc
	streams     context.Context
	endStreams  context.CancelFunc
	errorPage   ErrorPage
	limiter     *limiter
	hijacked    group
	feeds       group
	draining    atomic.Bool
	connections atomic.Int64
}

// New makes a server. ctx is the parent of every request's context: its values are seen, its end is not an orderly stop.
func New(ctx context.Context, c Config) *Server {
	c = c.withDefaults()
	s := &Server{Config: c, limiter: newLimiter(c.Now)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.streams, s.endStreams = context.WithCancel(s.ctx)
	s.App = fiber.New(fiber.Config{
		AppName:                      "comfyfleet",
		Immutable:                    true, // strings from a request outlive it
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		DisableStartupMessage:        true,
		CaseSensitive:                true,
		ReadTimeout:                  headerLimit,
		IdleTimeout:                  idleLimit,
		ReadBufferSize:               headerBytes,
		Concurrency:                  2 * c.MaxConnections, // the listener's own limit answers first
		ErrorHandler:                 s.answerError,
		JSONEncoder:                  EncodeJSON,
	})
	s.App.Use(s.begin)
	http := s.App.Server()
	s.inner = http.Handler
	http.Handler = s.serve
	http.CloseOnShutdown = true
	return s
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.MaxConnections <= 0 {
		c.MaxConnections = 4096
	}
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{{&c.Heartbeat, 15 * time.Second}, {&c.ReadIdle, 30 * time.Second}, {&c.WriteIdle, 30 * time.Second}, {&c.DrainFor, 15 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = uuid.NewString
	}
	return c
}

// Serve answers requests from ln until Shutdown. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	own := &listener{Listener: ln, s: s}
	// fasthttp's shutdown closes only listeners that it serves already; ours may come first.
	defer context.AfterFunc(s.streams, func() { own.Close() })()
	err := s.App.Listener(own)
	if err != nil && !(s.draining.Load() && errors.Is(err, net.ErrClosed)) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// Draining reports whether Shutdown has begun.
func (s *Server) Draining() bool { return s.draining.Load() }

// Stopping is closed when Shutdown begins. What waits for longer than an answer takes stops waiting then.
func (s *Server) Stopping() <-chan struct{} { return s.streams.Done() }

// Context is the parent of what outlives a request but not the server.
func (s *Server) Context() context.Context { return s.ctx }

// Shutdown stops accepting, ends the streams, waits for the requests until ctx ends, and then cuts what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.endStreams()
	err := s.App.ShutdownWithContext(ctx)
	err = errors.Join(err, s.feeds.wait(ctx), s.hijacked.wait(ctx))
	s.cancel()
	if err != nil {
		return fmt.Errorf("shut down http: %w", err)
	}
	return nil
}

// group counts goroutines that have an end of their own. Unlike a WaitGroup it may be waited for with a limit, and
// joined while it is waited for.
type group struct {
	mu    sync.Mutex
	count int
	empty chan struct{} // closed when count falls to zero; nil when nobody waits
}

func (g *group) add() (done func()) {
	g.mu.Lock()
	g.count++
	g.mu.Unlock()
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.count--; g.count == 0 && g.empty != nil {
			close(g.empty)
			g.empty = nil
		}
	})
}

func (g *group) wait(ctx context.Context) error {
	g.mu.Lock()
	if g.count == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
