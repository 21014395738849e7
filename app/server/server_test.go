package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// edge is a running server with the routes that a test adds.
type edge struct {
	*Server
	url  string
	log  *lockedBuffer
	stop func(limit time.Duration) error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, c Config, routes func(s *Server)) *edge {
	t.Helper()
	log := &lockedBuffer{}
	c.DrainFor = time.Minute // a client that stalls still gets its answer
	c.Log = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := New(t.Context(), c)
	routes(s)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	e := &edge{Server: s, url: "http://" + ln.Addr().String(), log: log}
	stopped := false
	e.stop = func(limit time.Duration) error {
		if stopped {
			return nil
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		err := s.Shutdown(ctx)
		require.NoError(t, <-served)
		return err
	}
	t.Cleanup(func() { require.NoError(t, e.stop(30*time.Second)) })
	return e
}

func problemOf(t *testing.T, r *http.Response) Problem {
	t.Helper()
	defer r.Body.Close()
	require.Equal(t, "application/problem+json", r.Header.Get("Content-Type"))
	var p Problem
	require.NoError(t, json.NewDecoder(r.Body).Decode(&p))
	require.Equal(t, r.StatusCode, p.Status)
	return p
}

// post sends n bytes, sized or chunked.
func post(t *testing.T, url string, n int64, chunked bool) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, io.LimitReader(zeros{}, n))
	require.NoError(t, err)
	if !chunked {
		req.ContentLength = n
	}
	r, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	return r
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func echoSize(s *Server, limit int64) func(c *fiber.Ctx) error {
	return func(c *fiber.Ctx) error {
		b, err := s.Body(c, limit)
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, b)
		if err != nil {
			return err
		}
		return c.SendString(fmt.Sprint(n))
	}
}

func TestBodyLimitHoldsToTheByte(t *testing.T) {
	e := start(t, Config{}, func(s *Server) { s.App.Post("/b", echoSize(s, 1<<20)) })
	for _, chunked := range []bool{false, true} {
		r := post(t, e.url+"/b", 1<<20, chunked)
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(1<<20), string(body))
		r.Body.Close()

		r = post(t, e.url+"/b", 1<<20+1, chunked)
		require.Equal(t, http.StatusRequestEntityTooLarge, r.StatusCode)
		require.Equal(t, "body_too_large", problemOf(t, r).Code)
	}
}

func TestRefusalOfALargeBodyCanBeRead(t *testing.T) {
	e := start(t, Config{}, func(s *Server) {
		s.App.Post("/refused", func(c *fiber.Ctx) error { return models.Errorf(models.CodeUnauth, "", "no") })
		s.App.Post("/begun", func(c *fiber.Ctx) error {
			b, err := s.Body(c, 1<<40)
			if err != nil {
				return err
			}
			_, err = io.CopyN(io.Discard, b, 5<<20)
			require.NoError(t, err)
			return models.Errorf(models.CodeInvalid, "media_too_large", "too large")
		})
	})
	for _, path := range []string{"/refused", "/begun"} {
		for _, chunked := range []bool{false, true} {
			for range 4 {
				r := post(t, e.url+path, 64<<20, chunked)
				require.NotEmpty(t, problemOf(t, r).Code)
			}
		}
	}
}

func TestCompressedBodyIsRefused(t *testing.T) {
	e := start(t, Config{}, func(s *Server) { s.App.Post("/b", echoSize(s, 1<<20)) })
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+"/b", strings.NewReader("xxx"))
	req.Header.Set("Content-Encoding", "gzip")
	r, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnsupportedMediaType, r.StatusCode)
	require.Equal(t, "content_encoding", problemOf(t, r).Code)
}

func TestAStuckBodyIsAnswered(t *testing.T) {
	e := start(t, Config{ReadIdle: 300 * time.Millisecond}, func(s *Server) { s.App.Post("/b", echoSize(s, 1<<20)) })
	c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	const begun = 9000 // beyond what fasthttp reads ahead
	_, err = fmt.Fprintf(c, "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", begun+1, make([]byte, begun))
	require.NoError(t, err)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestTimeout, r.StatusCode)
	require.Equal(t, "request_timeout", problemOf(t, r).Code)
}

// In a bubble of time, where no stalled machine makes a slow body a stuck one.
func TestASlowBodyDoesNotEndBeforeItIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Config: Config{}.withDefaults()}
		client, conn := net.Pipe()
		var ctx fasthttp.RequestCtx
		ctx.Init2(conn, nil, false)
		const parts, size = 5, 1000
		b := &Body{s: s, ctx: &ctx, r: conn, limit: 1 << 20, length: parts*size + 1, until: s.Now().Add(uploadLimit)}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range parts {
				time.Sleep(s.ReadIdle - time.Second)
				_, _ = client.Write(make([]byte, size)) // what came is counted
			}
		}()
		began := time.Now()
		n, err := io.Copy(io.Discard, b)
		took := time.Since(began)
		conn.Close()
		<-sent
		require.ErrorIs(t, err, fiber.ErrRequestTimeout)
		require.EqualValues(t, parts*size, n)
		require.Equal(t, parts*(s.ReadIdle-time.Second)+s.ReadIdle, took, "each part has the time of a read")
	})
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	e := start(t, Config{}, func(s *Server) { s.App.Get("/x", func(c *fiber.Ctx) error { return c.SendString("x") }) })
	r, err := http.Get(e.url + "/nothing")
	require.NoError(t, err)
	require.Equal(t, "no_such_path", problemOf(t, r).Code)
	r, err = http.Post(e.url+"/x", "", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusMethodNotAllowed, r.StatusCode)
	require.Equal(t, "method_not_allowed", problemOf(t, r).Code)
}

func TestInternalErrorsAreLoggedAndNeverShown(t *testing.T) {
	e := start(t, Config{}, func(s *Server) {
		s.App.Get("/fails", func(c *fiber.Ctx) error { return errors.New("secret path /etc") })
		s.App.Get("/panics", func(c *fiber.Ctx) error { panic("secret path /etc") })
	})
	for _, path := range []string{"/fails", "/panics"} {
		r, err := http.Get(e.url + path)
		require.NoError(t, err)
		p := problemOf(t, r)
		require.Equal(t, http.StatusInternalServerError, p.Status)
		require.NotContains(t, p.Detail, "secret")
		require.NotEmpty(t, p.RequestID)
		require.Equal(t, r.Header.Get("X-Request-Id"), p.RequestID)
		require.Contains(t, e.log.String(), p.RequestID)
		require.Contains(t, e.log.String(), "secret path /etc")
	}
}

// oneKey knows one key.
type oneKey struct{ revoked chan struct{} }

func (k oneKey) Authenticate(_ context.Context, key, ip string) (auth.Principal, error) {
	select {
	case <-k.revoked:
		return auth.Principal{}, models.Errorf(models.CodeUnauth, "key_revoked", "revoked")
	default:
	}
	if key != "good-key" {
		return auth.Principal{}, models.Errorf(models.CodeUnauth, "unknown_key", "not known")
	}
	return auth.Principal{
		Tenant: models.Tenant{ID: "t1"},
		Key:    models.APIKey{ID: "k1", Prefix: "good", Scopes: string(models.ScopeRead)},
	}, nil
}

func TestKeyIsTakenFromEveryPlace(t *testing.T) {
	e := start(t, Config{}, func(s *Server) {
		answer := func(c *fiber.Ctx) error { return c.SendString(PrincipalOf(c).Tenant.ID) }
		s.App.Get("/read", s.Auth(oneKey{}, models.ScopeRead, Limit{}), answer)
		s.App.Get("/submit", s.Auth(oneKey{}, models.ScopeSubmit, Limit{}), answer)
	})
	do := func(path string, change func(r *http.Request)) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+path, nil)
		require.NoError(t, err)
		change(req)
		r, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { r.Body.Close() })
		return r
	}
	for name, change := range map[string]func(r *http.Request){
		"bearer":         func(r *http.Request) { r.Header.Set("Authorization", "Bearer good-key") },
		"x-api-key":      func(r *http.Request) { r.Header.Set("X-API-Key", "good-key") },
		"basic user":     func(r *http.Request) { r.SetBasicAuth("good-key", "x") },
		"basic password": func(r *http.Request) { r.SetBasicAuth("x", "good-key") },
	} {
		require.Equal(t, http.StatusOK, do("/read", change).StatusCode, name)
	}
	good := func(r *http.Request) { r.Header.Set("Authorization", "Bearer good-key") }
	require.Equal(t, http.StatusForbidden, do("/submit", good).StatusCode)
	for name, change := range map[string]func(r *http.Request){
		"none":  func(*http.Request) {},
		"wrong": func(r *http.Request) { r.Header.Set("Authorization", "Bearer bad") },
		"empty": func(r *http.Request) { r.SetBasicAuth("", "") },
	} {
		r := do("/read", change)
		require.Equal(t, http.StatusUnauthorized, r.StatusCode, name)
		require.Contains(t, r.Header.Get("WWW-Authenticate"), "Bearer", name)
	}
	require.NotContains(t, e.log.String(), "good-key")
}

func TestRateIsLimitedBeforeTheBodyIsRead(t *testing.T) {
	now := time.Now()
	e := start(t, Config{Now: func() time.Time { return now }, ReadIdle: time.Hour}, func(s *Server) {
		limit := Limit{Bucket: "submit", PerMinute: func(models.Tenant) int { return 2 }}
		s.App.Post("/jobs", s.Auth(oneKey{}, models.ScopeRead, limit), echoSize(s, 1<<40))
	})
	for i := range 3 {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+"/jobs", io.LimitReader(zeros{}, 8<<20))
		req.Header.Set("X-API-Key", "good-key")
		r, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.Equal(t, `"submit";q=2;w=60`, r.Header.Get("RateLimit-Policy"))
		require.Equal(t, fmt.Sprintf(`"submit";r=%d;t=60`, max(0, 1-i)), r.Header.Get("RateLimit"))
		if i < 2 {
			require.Equal(t, http.StatusOK, r.StatusCode)
			r.Body.Close()
			continue
		}
		require.Equal(t, "60", r.Header.Get("Retry-After"))
		require.Equal(t, "rate_limited", problemOf(t, r).Code)
	}
}

func TestRateWindowSlidesExactly(t *testing.T) {
	now := time.Unix(1000, 0)
	l := newLimiter(func() time.Time { return now })
	take := func() bool { _, _, ok := l.take("k", 3); return ok }
	require.True(t, take())
	now = now.Add(20 * time.Second)
	require.True(t, take())
	require.True(t, take())
	require.False(t, take())
	now = now.Add(40*time.Second - time.Nanosecond)
	_, wait, ok := l.take("k", 3)
	require.False(t, ok)
	require.Equal(t, time.Nanosecond, wait)
	now = now.Add(time.Nanosecond)
	require.True(t, take())
	require.False(t, take(), "no burst at the edge of a minute")
	_, wait, ok = l.take("k", 1) // the limit was lowered
	require.False(t, ok)
	require.Equal(t, time.Minute, wait)
	now = now.Add(2 * time.Minute)
	_, _, ok = l.take("other", 1)
	require.True(t, ok)
	require.Len(t, l.windows, 1, "idle keys are forgotten")
}

func TestClientAddressIsBelievedFromTrustedProxiesOnly(t *testing.T) {
	ask := func(trusted []netip.Prefix, forwarded string) string {
		e := start(t, Config{TrustedProxies: trusted}, func(s *Server) {
			s.App.Get("/ip", func(c *fiber.Ctx) error { return c.SendString(ClientIP(c)) })
		})
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/ip", nil)
		req.Header.Set("X-Forwarded-For", forwarded)
		r, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return string(b)
	}
	local := netip.MustParsePrefix("127.0.0.0/8")
	require.Equal(t, "127.0.0.1", ask(nil, "203.0.113.9"))
	require.Equal(t, "203.0.113.9", ask([]netip.Prefix{local}, "198.51.100.1, 203.0.113.9"))
	require.Equal(t, "198.51.100.1", ask([]netip.Prefix{local, netip.MustParsePrefix("203.0.113.0/24")}, "198.51.100.1, 203.0.113.9"))
	require.Equal(t, "127.0.0.1", ask([]netip.Prefix{local}, "nonsense"))
}

// shakyListener fails a few times before it accepts.
type shakyListener struct {
	net.Listener
	failures []error
}

func (l *shakyListener) Accept() (net.Conn, error) {
	if len(l.failures) > 0 {
		err := l.failures[0]
		l.failures = l.failures[1:]
		return nil, &net.OpError{Op: "accept", Err: err}
	}
	return l.Listener.Accept()
}

func TestListenerSurvivesTooManyOpenFiles(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := New(t.Context(), Config{Log: slog.New(slog.DiscardHandler)})
	s.App.Get("/", func(c *fiber.Ctx) error { return c.SendString("here") })
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(&shakyListener{ln, []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED}})
	}()
	r, err := http.Get("http://" + ln.Addr().String())
	require.NoError(t, err)
	r.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, s.Shutdown(ctx))
	require.NoError(t, <-served)
}

func TestConnectionsBeyondTheLimitAreAnswered(t *testing.T) {
	e := start(t, Config{MaxConnections: 1}, func(s *Server) {
		s.App.Get("/", func(c *fiber.Ctx) error { return c.SendString("here") })
	})
	dial := func() (net.Conn, *http.Response) {
		c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		return c, r
	}
	first, r := dial()
	require.Equal(t, http.StatusOK, r.StatusCode)
	_, r = dial()
	require.Equal(t, "too_many_connections", problemOf(t, r).Code)
	first.Close()
	require.Eventually(t, func() bool { return e.connections.Load() == 0 }, 30*time.Second, 5*time.Millisecond)
	_, r = dial()
	require.Equal(t, http.StatusOK, r.StatusCode)
}

func TestAServerThatIsStoppedBeforeItServesEndsAtOnce(t *testing.T) {
	s := New(t.Context(), Config{Log: slog.New(slog.DiscardHandler)})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, s.Shutdown(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	select {
	case err := <-served:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("it serves although it was stopped")
	}
	_, err = net.Dial("tcp", ln.Addr().String())
	require.Error(t, err, "nobody listens")
}

func TestARequestThatAStopCutsIsToldSo(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	log := &lockedBuffer{}
	s := New(ctx, Config{Log: slog.New(slog.NewJSONHandler(log, nil))})
	s.App.Get("/query", func(c *fiber.Ctx) error { return fmt.Errorf("list jobs: %w", c.UserContext().Err()) })
	stop()
	r, err := s.App.Test(httptest.NewRequest("GET", "/query", nil), -1)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"code":"stopping"`)
	require.NotContains(t, log.String(), "request failed")
}
