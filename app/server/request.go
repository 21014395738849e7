package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"comfyfleet/app/auth"
)

// request is what the edge knows of a request.
type request struct {
	id    string
	start time.Time
	ip    string
	route string
	// code is the problem that it was answered with, "" for none.
	code      string
	principal *auth.Principal
	body      *Body
}

type requestKey struct{}

func requestOf(c *fiber.Ctx) *request {
	r, _ := c.Locals(requestKey{}).(*request)
	return r
}

// RequestID is the id that the log and the answer carry.
func RequestID(c *fiber.Ctx) string {
	if r := requestOf(c); r != nil {
		return r.id
	}
	return ""
}

// ClientIP is who sent the request, seen through the trusted proxies.
func ClientIP(c *fiber.Ctx) string {
	if r := requestOf(c); r != nil {
		return r.ip
	}
	return ""
}

// serve is fasthttp's handler: what must happen around every request, whichever way Fiber answers it.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	r := &request{start: s.Now(), ip: s.clientIP(ctx)}
	r.id = s.requestID(ctx)
	ctx.SetUserValue(requestKey{}, r)
	if known(string(ctx.Method())) {
		s.inner(ctx)
	} else {
		ctx.Error("unknown method", http.StatusNotImplemented)
	}
	s.settle(ctx, r)
	s.finish(ctx, r)
}

// known reports whether Fiber knows the method; it answers others in its own words.
func known(method string) bool { return slices.Contains(fiber.DefaultMethods, method) }

// begin is the first middleware: headers, context, and panics as errors.
func (s *Server) begin(c *fiber.Ctx) (err error) {
	r := requestOf(c)
	if r == nil { // Fiber itself made the context, for a request that is not HTTP
		return c.Next()
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		r.route = routeOf(c, err)
	}()
	for _, h := range [][2]string{
		{"X-Request-Id", r.id},
		{fiber.HeaderXContentTypeOptions, "nosniff"},
		{fiber.HeaderXFrameOptions, "DENY"},
		{fiber.HeaderReferrerPolicy, "no-referrer"},
		{fiber.HeaderContentSecurityPolicy, "default-src 'none'; frame-ancestors 'none'"},
		{fiber.HeaderCacheControl, "no-store"},
	} {
		c.Set(h[0], h[1])
	}
	c.SetUserContext(s.ctx)
	return c.Next()
}

// routeOf is the pattern of the route that answered, for logs and metrics.
func routeOf(c *fiber.Ctx, err error) string {
	if e, ok := err.(*fiber.Error); ok && (e.Code == http.StatusNotFound || e.Code == http.StatusMethodNotAllowed) {
		return "none"
	}
	return c.Route().Path
}

// finish logs and counts an answered request. A stream is logged when it begins.
func (s *Server) finish(ctx *fasthttp.RequestCtx, r *request) {
	took := s.Now().Sub(r.start)
	status := ctx.Response.StatusCode()
	level := slog.LevelInfo
	switch r.route {
	case "/health", "/livez", "/readyz", "/metrics":
		level = slog.LevelDebug
	}
	args := []any{"request", r.id, "method", string(ctx.Method()), "path", string(ctx.Path()), "status", status,
		"ms", took.Milliseconds(), "ip", r.ip}
	if r.code != "" {
		args = append(args, "code", r.code)
	}
	if r.principal != nil {
		args = append(args, "tenant", r.principal.Tenant.ID, "key", r.principal.Key.Prefix)
	}
	s.Log.Log(s.ctx, level, "request", args...)
	if s.Observe != nil {
		s.Observe(Observation{Method: string(ctx.Method()), Route: r.route, Status: status, Took: took})
	}
}

// clientIP walks X-Forwarded-For from its end while the hops are trusted: what stands left of the first untrusted hop
// anybody may have written.
func (s *Server) clientIP(ctx *fasthttp.RequestCtx) string {
	at, ok := netip.AddrFromSlice(ctx.RemoteIP())
	if !ok {
		return ctx.RemoteAddr().String()
	}
	at = at.Unmap()
	hops := strings.Split(string(ctx.Request.Header.Peek(fiber.HeaderXForwardedFor)), ",")
	for i := len(hops) - 1; i >= 0 && s.trusted(at); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		at = hop.Unmap()
	}
	return at.String()
}

func (s *Server) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a) })
}

// requestID is a trusted proxy's, so that both logs can be read together, or ours.
func (s *Server) requestID(ctx *fasthttp.RequestCtx) string {
	peer, ok := netip.AddrFromSlice(ctx.RemoteIP())
	if ok && s.trusted(peer.Unmap()) {
		if id := string(ctx.Request.Header.Peek("X-Request-Id")); id != "" && len(id) <= 64 && strings.Trim(id, idCharacters) == "" {
			return id
		}
	}
	return s.NewID()
}

const idCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
