package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/models"
)

// frameGap is the least time between two deliveries to one client: what comes faster is coalesced by the source. 25 a
// second is as many as anybody sees.
const frameGap = 40 * time.Millisecond

// lastWords is how long a stream's client has to read on while the server stops.
const lastWords = time.Second

// Feed is a stream of news for one client.
type Feed struct {
	// Wake fires when Next may have something. One token may stand for many changes.
	Wake <-chan struct{}
	// Next is what is new since the last call, rendered for the transport; it never waits for news. It is called at the
	// beginning, after each wake, and at each heartbeat. done ends the stream after frames.
	Next func(ctx context.Context) (frames [][]byte, done bool, err error)
	// Check is asked at each heartbeat whether the client may still listen; nil for always.
	Check func(ctx context.Context) error
	// Close gives back what the feed holds.
	Close func()
}

// Open makes a feed once the connection is the stream's. What a feed holds is taken here, not before: a connection that
// breaks earlier then holds nothing.
type Open func(ctx context.Context) (Feed, error)

// SSE answers with a stream of server-sent events. Frames are whole events, as Event renders them. Between them come
// comments as heartbeats. The stream ends when the feed is done, the client goes, or the server stops.
func (s *Server) SSE(c *fiber.Ctx, open Open) error {
	c.Set(fiber.HeaderContentType, "text/event-stream; charset=utf-8")
	c.Set("X-Accel-Buffering", "no") // nginx would hold the events back
	ctx := c.Context()
	if ctx.IsHead() {
		return nil
	}
	var head strings.Builder
	head.WriteString("HTTP/1.1 200 OK\r\nConnection: close\r\n")
	for name, value := range ctx.Response.Header.All() {
		if n := string(name); n != fiber.HeaderContentLength && n != fiber.HeaderConnection {
			fmt.Fprintf(&head, "%s: %s\r\n", name, value)
		}
	}
	head.WriteString("\r\n")
	id := RequestID(c)
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) {
		s.stream(id, open, &sseLine{conn: conn, head: head.String(), gone: make(chan struct{})})
	})
	return nil
}

// Event renders one server-sent event. Empty parts are left out; data may have line breaks.
func Event(id, name string, data []byte) []byte {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	if name != "" {
		fmt.Fprintf(&b, "event: %s\n", name)
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		fmt.Fprintf(&b, "data: %s\n", line)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// line is one client's connection.
type line interface {
	// start begins the stream. cancel is called when the client is gone.
	start(cancel func()) error
	send(frames [][]byte) error
	beat() error
	// under is the connection.
	under() net.Conn
	// end says goodbye: err is nil for a stream that is done.
	end(err error)
}

// stream runs one feed to its end on a hijacked connection.
func (s *Server) stream(request string, open Open, l line) {
	done := s.feeds.add()
	defer done()
	ctx, cancel := context.WithCancel(s.streams)
	defer cancel()
	if ours, ok := bare(l.under()).(*connection); ok { // looked up now: fasthttp takes its wrapper back at the end
		calm := context.AfterFunc(s.streams, ours.hurry) // a write may be stuck
		defer calm()
	}
	err := s.follow(ctx, cancel, open, l)
	if ctx.Err() == nil && err != nil && models.ErrorCode(err) == models.CodeInternal && !isNet(err) {
		s.Log.Error("stream ended", "request", request, "err", err)
	}
	if s.streams.Err() != nil {
		err = errStopping
	}
	l.end(err)
}

var errStopping = errors.New("the server is stopping")

func isNet(err error) bool {
	var e net.Error
	return errors.As(err, &e) || errors.Is(err, net.ErrClosed)
}

func (s *Server) follow(ctx context.Context, cancel func(), open Open, l line) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	f, err := open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := l.start(cancel); err != nil {
		return err
	}
	heart := time.NewTicker(s.Heartbeat)
	defer heart.Stop()
	gap := time.NewTimer(frameGap)
	defer gap.Stop()
	for {
		frames, done, err := f.Next(ctx)
		if err != nil {
			return err
		}
		if len(frames) > 0 {
			if err := l.send(frames); err != nil {
				return err
			}
			gap.Reset(frameGap)
		}
		if done {
			return nil
		}
		if len(frames) > 0 {
			select {
			case <-gap.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case <-f.Wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-heart.C:
			if f.Check != nil {
				if err := f.Check(ctx); err != nil {
					return err
				}
			}
			if err := l.beat(); err != nil {
				return err
			}
		}
	}
}

// sseLine writes server-sent events. A goroutine reads what a client should not send, to see it go at once: else its
// place among the followers would stay taken until two heartbeats fail.
type sseLine struct {
	conn net.Conn
	head string
	gone chan struct{} // closed when the reader has ended
	on   bool
}

func (l *sseLine) start(cancel func()) error {
	raw := bare(l.conn) // fasthttp takes its wrapper back when the handler returns
	l.on = true
	go func() {
		defer close(l.gone)
		defer cancel()
		var b [512]byte
		for {
			if _, err := raw.Read(b[:]); err != nil {
				return
			}
		}
	}()
	_, err := l.conn.Write([]byte(l.head))
	return err
}

func (l *sseLine) send(frames [][]byte) error {
	_, err := l.conn.Write(bytes.Join(frames, nil))
	return err
}

func (l *sseLine) beat() error {
	_, err := l.conn.Write([]byte(": \n\n"))
	return err
}

func (l *sseLine) under() net.Conn { return l.conn }

func (l *sseLine) end(err error) {
	if !l.on { // nothing was sent: say why
		body, status := refusal(err)
		fmt.Fprintf(l.conn, "HTTP/1.1 %s\r\nContent-Type: application/problem+json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
		return
	}
	_ = l.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	<-l.gone
}
