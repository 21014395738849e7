package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"comfyfleet/models"
)

const (
	// uploadLimit is how long a body may take in all, however steadily it comes: 690 MiB at 3 Mbit/s.
	uploadLimit = 30 * time.Minute
	// keepUnread is how much of an unread body fasthttp itself reads off to keep the connection.
	keepUnread = 256 << 10
)

// Body reads a request's body within its limit. Each read has a deadline of its own, so a slow upload lives as long as
// it moves, and a stuck one does not.
type Body struct {
	s      *Server
	ctx    *fasthttp.RequestCtx
	r      io.Reader
	limit  int64
	length int64 // Content-Length, -1 when chunked
	read   int64
	ended  bool
	until  time.Time
}

// Body is the request's body of at most limit bytes. A larger or an encoded one is refused here when the headers say so,
// else by Read.
func (s *Server) Body(c *fiber.Ctx, limit int64) (*Body, error) {
	ctx := c.Context()
	b := &Body{s: s, ctx: ctx, r: ctx.RequestBodyStream(), limit: limit, length: int64(ctx.Request.Header.ContentLength()), until: time.Now().Add(uploadLimit)}
	if b.r == nil {
		b.r, b.length = strings.NewReader(""), 0
	}
	if r := requestOf(c); r != nil {
		r.body = b
	}
	if e := c.Get(fiber.HeaderContentEncoding); e != "" && !strings.EqualFold(e, "identity") {
		return nil, models.Errorf(models.CodeEncoding, "content_encoding", "the body must not be compressed (Content-Encoding: %s)", clip(e))
	}
	if b.length > limit {
		return nil, errBodyTooLarge(limit)
	}
	return b, nil
}

// Read is the next part of the body. Its errors are fit for the client: too large, too slow, cut off.
func (b *Body) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	deadline := time.Now().Add(b.s.ReadIdle) // of the machine's clock, as all deadlines of sockets
	if deadline.After(b.until) {
		deadline = b.until
	}
	if err := b.ctx.SetReadDeadline(deadline); err != nil {
		return 0, errCutOff(err)
	}
	n, err := b.r.Read(p)
	b.read += int64(n)
	if b.read > b.limit {
		return 0, errBodyTooLarge(b.limit)
	}
	switch {
	case errors.Is(err, io.EOF):
		if b.length >= 0 && b.read < b.length {
			return n, errCutOff(io.ErrUnexpectedEOF) // fasthttp says EOF for a connection that ended early
		}
		b.ended = true
		return n, io.EOF
	case err != nil:
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return n, fiber.ErrRequestTimeout
		}
		return n, errCutOff(err)
	}
	return n, nil
}

// unread is how much of the body has not been read; -1 when only the client knows.
func (b *Body) unread() int64 {
	switch {
	case b.ended:
		return 0
	case b.length < 0:
		return -1
	}
	return b.length - b.read
}

func errBodyTooLarge(limit int64) error {
	return models.Errorf(models.CodeTooLarge, "body_too_large", "the request's body is larger than %d bytes", limit)
}

func errCutOff(err error) error {
	return &models.Error{Code: models.CodeInvalid, Name: "body_cut_off", Detail: "the connection ended before the body did", Err: err}
}

func clip(s string) string { return s[:min(len(s), 80)] }

// settle makes sure that a client which still sends can read why it was refused. fasthttp would close the connection
// with data unread, which resets it. Instead the answer is sent, our direction closed, and what comes read off for a
// while.
func (s *Server) settle(ctx *fasthttp.RequestCtx, r *request) {
	if ctx.Hijacked() || ctx.Response.StatusCode() < http.StatusBadRequest || ctx.Response.IsBodyStream() {
		return
	}
	var unread int64
	if r.body != nil {
		unread = r.body.unread()
	} else if unread = int64(ctx.Request.Header.ContentLength()); unread < -1 {
		unread = 0 // no body
	}
	if unread >= 0 && unread <= keepUnread {
		return
	}
	answer := fasthttp.AcquireResponse()
	ctx.Response.CopyTo(answer)
	answer.SetConnectionClose()
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) {
		done := s.hijacked.add()
		defer done()
		defer fasthttp.ReleaseResponse(answer)
		if _, err := answer.WriteTo(c); err == nil {
			halfClose(c, s.DrainFor)
		}
	})
}
