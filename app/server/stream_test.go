package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// source is a feed that a test drives.
type source struct {
	wake   chan struct{}
	frames chan []byte
	open   atomic.Int32
}

func newSource() *source {
	return &source{wake: make(chan struct{}, 1), frames: make(chan []byte, 16)}
}

// say queues a frame; "" ends the feed.
func (s *source) say(frame string) {
	s.frames <- []byte(frame)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *source) feed(context.Context) (Feed, error) {
	s.open.Add(1)
	return Feed{
		Wake: s.wake,
		Next: func(context.Context) (out [][]byte, done bool, err error) {
			for {
				select {
				case f := <-s.frames:
					if len(f) == 0 {
						return out, true, nil
					}
					out = append(out, f)
				default:
					return out, false, nil
				}
			}
		},
		Close: func() { s.open.Add(-1) },
	}, nil
}

func TestEventsArriveWithHeartbeatsAndEnd(t *testing.T) {
	src := newSource()
	e := start(t, Config{Heartbeat: 20 * time.Millisecond}, func(s *Server) {
		s.App.Get("/events", func(c *fiber.Ctx) error { return s.SSE(c, src.feed) })
	})
	r, err := http.Get(e.url + "/events")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, "text/event-stream; charset=utf-8", r.Header.Get("Content-Type"))
	require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
	lines := bufio.NewScanner(r.Body)
	require.True(t, lines.Scan())
	require.Equal(t, ": ", lines.Text(), "a heartbeat")
	src.say(string(Event("7", "status", []byte("a\nb"))))
	src.say("")
	rest := ""
	for lines.Scan() {
		if lines.Text() != ": " && lines.Text() != "" {
			rest += lines.Text() + "|"
		}
	}
	require.NoError(t, lines.Err())
	require.Equal(t, "id: 7|event: status|data: a|data: b|", rest)
	require.Eventually(t, func() bool { return src.open.Load() == 0 }, 30*time.Second, time.Millisecond)
}

func TestGoneClientIsSeenAtOnce(t *testing.T) {
	src := newSource()
	e := start(t, Config{Heartbeat: time.Hour}, func(s *Server) {
		s.App.Get("/events", func(c *fiber.Ctx) error { return s.SSE(c, src.feed) })
		s.App.Get("/ws", func(c *fiber.Ctx) error { return s.WebSocket(c, src.feed) })
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/events", nil)
	r, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, int32(1), src.open.Load())
	cancel()
	r.Body.Close()
	require.Eventually(t, func() bool { return src.open.Load() == 0 }, 30*time.Second, time.Millisecond)

	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(e.url, "http", "ws", 1)+"/ws", nil)
	require.NoError(t, err)
	src.say("x")
	_, m, err := ws.ReadMessage()
	require.NoError(t, err)
	require.Equal(t, "x", string(m))
	ws.Close()
	require.Eventually(t, func() bool { return src.open.Load() == 0 }, 30*time.Second, time.Millisecond)
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	src, wsSrc := newSource(), newSource()
	e := start(t, Config{}, func(s *Server) {
		s.App.Get("/events", func(c *fiber.Ctx) error { return s.SSE(c, src.feed) })
		s.App.Get("/ws", func(c *fiber.Ctx) error { return s.WebSocket(c, wsSrc.feed) })
	})
	r, err := http.Get(e.url + "/events")
	require.NoError(t, err)
	defer r.Body.Close()
	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(e.url, "http", "ws", 1)+"/ws", nil)
	require.NoError(t, err)
	defer ws.Close()
	wsSrc.say("here")
	_, _, err = ws.ReadMessage()
	require.NoError(t, err)
	closed := make(chan error, 1)
	go func() {
		_, _, err := ws.ReadMessage()
		closed <- err
	}()
	require.NoError(t, e.stop(30*time.Second))
	_, err = io.ReadAll(r.Body)
	require.NoError(t, err)
	require.True(t, websocket.IsCloseError(<-closed, websocket.CloseServiceRestart))
	require.Zero(t, src.open.Load()+wsSrc.open.Load())
}

func TestRevokedKeyEndsItsStreams(t *testing.T) {
	src := newSource()
	keys := oneKey{revoked: make(chan struct{})}
	e := start(t, Config{Heartbeat: time.Hour}, func(s *Server) {
		s.App.Get("/ws", s.Auth(keys, models.ScopeRead, Limit{}), func(c *fiber.Ctx) error {
			check := Recheck(c, keys, models.ScopeRead)
			return s.WebSocket(c, func(ctx context.Context) (Feed, error) {
				s.Heartbeat = 10 * time.Millisecond // the patience with the client's pongs stays long
				f, err := src.feed(ctx)
				f.Check = check
				return f, err
			})
		})
	})
	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(e.url, "http", "ws", 1)+"/ws", http.Header{"X-API-Key": {"good-key"}})
	require.NoError(t, err)
	defer ws.Close()
	close(keys.revoked)
	_, _, err = ws.ReadMessage()
	require.True(t, websocket.IsCloseError(err, websocket.ClosePolicyViolation), err)
}

func TestAClientThatAnswersNoPingsIsToldToComeBack(t *testing.T) {
	src := newSource()
	e := start(t, Config{Heartbeat: 10 * time.Millisecond}, func(s *Server) {
		s.App.Get("/ws", func(c *fiber.Ctx) error { return s.WebSocket(c, src.feed) })
	})
	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(e.url, "http", "ws", 1)+"/ws", nil)
	require.NoError(t, err)
	defer ws.Close()
	ws.SetPingHandler(func(string) error { return nil })
	_, _, err = ws.ReadMessage()
	require.True(t, websocket.IsCloseError(err, websocket.CloseGoingAway), err)
}

func TestPanicInAStreamEndsOnlyThatStream(t *testing.T) {
	e := start(t, Config{}, func(s *Server) {
		s.App.Get("/events", func(c *fiber.Ctx) error {
			return s.SSE(c, func(context.Context) (Feed, error) { panic("in a stream") })
		})
		s.App.Get("/full", func(c *fiber.Ctx) error {
			return s.SSE(c, func(context.Context) (Feed, error) {
				return Feed{}, models.Errorf(models.CodeLimited, "followers_limit", "too many")
			})
		})
		s.App.Get("/file", func(c *fiber.Ctx) error {
			s.SendStream(c, io.NopCloser(panicReader{}), 10)
			return nil
		})
	})
	for path, code := range map[string]string{"/events": "internal", "/full": "followers_limit"} {
		r, err := http.Get(e.url + path)
		require.NoError(t, err)
		require.Equal(t, code, problemOf(t, r).Code)
	}
	require.Contains(t, e.log.String(), "in a stream")
	r, err := http.Get(e.url + "/file")
	if err == nil {
		_, err = io.ReadAll(r.Body)
		r.Body.Close()
	}
	require.Error(t, err, "a cut answer must not look whole")
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("in a reader") }

func TestWebSocketOriginsAreChecked(t *testing.T) {
	src := newSource()
	e := start(t, Config{Origins: []string{"https://app.example.com"}}, func(s *Server) {
		s.App.Get("/ws", func(c *fiber.Ctx) error { return s.WebSocket(c, src.feed) })
	})
	address := strings.Replace(e.url, "http", "ws", 1) + "/ws"
	for origin, ok := range map[string]bool{"": true, e.url: true, "https://app.example.com": true, "https://evil.example.com": false} {
		h := http.Header{}
		if origin != "" {
			h.Set("Origin", origin)
		}
		ws, r, err := websocket.DefaultDialer.Dial(address, h)
		if !ok {
			require.Error(t, err, origin)
			require.Equal(t, http.StatusForbidden, r.StatusCode)
			continue
		}
		require.NoError(t, err, origin)
		ws.Close()
	}
	r, err := http.Get(e.url + "/ws")
	require.NoError(t, err)
	require.Equal(t, "websocket_required", problemOf(t, r).Code)
}

type seekCloser struct {
	*bytes.Reader
	closed *atomic.Int32
}

func (s seekCloser) Close() error { s.closed.Add(1); return nil }

func TestFilesAreServedInPartsAndNeverAsActiveContent(t *testing.T) {
	content := []byte("0123456789")
	var opened, closed atomic.Int32
	e := start(t, Config{}, func(s *Server) {
		s.App.Get("/f", func(c *fiber.Ctx) error {
			opened.Add(1)
			return s.SendFile(c, File{Name: "ä b.png", ContentType: c.Query("type", "image/png"), Size: 10, SHA256: "abc",
				Content: seekCloser{bytes.NewReader(content), &closed}, Download: c.Query("dl") != ""})
		})
	})
	get := func(method, query string, header ...string) (*http.Response, string) {
		req, _ := http.NewRequestWithContext(t.Context(), method, e.url+"/f"+query, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		r, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return r, string(b)
	}
	for _, c := range []struct {
		header []string
		status int
		body   string
	}{
		{nil, 200, "0123456789"},
		{[]string{"Range", "bytes=0-3"}, 206, "0123"},
		{[]string{"Range", "bytes=8-"}, 206, "89"},
		{[]string{"Range", "bytes=8-99"}, 206, "89"},
		{[]string{"Range", "bytes=-2"}, 206, "89"},
		{[]string{"Range", "bytes=-99"}, 206, "0123456789"},
		{[]string{"Range", "bytes=0-1,3-4"}, 200, "0123456789"},
		{[]string{"Range", "lines=1-2"}, 200, "0123456789"},
		{[]string{"Range", "bytes=5-2"}, 200, "0123456789"},
		{[]string{"Range", "bytes=0-3", "If-Range", `"abc"`}, 206, "0123"},
		{[]string{"Range", "bytes=0-3", "If-Range", `"old"`}, 200, "0123456789"},
		{[]string{"If-None-Match", `"abc"`}, 304, ""},
	} {
		r, body := get(http.MethodGet, "", c.header...)
		require.Equal(t, c.status, r.StatusCode, c.header)
		require.Equal(t, c.body, body, c.header)
	}
	r, _ := get(http.MethodGet, "", "Range", "bytes=10-")
	require.Equal(t, 416, r.StatusCode)
	require.Equal(t, "bytes */10", r.Header.Get("Content-Range"))
	r, _ = get(http.MethodGet, "", "Range", "bytes=2-3")
	require.Equal(t, "bytes 2-3/10", r.Header.Get("Content-Range"))
	r, body := get(http.MethodHead, "")
	require.Equal(t, int64(10), r.ContentLength)
	require.Empty(t, body)

	r, _ = get(http.MethodGet, "")
	require.Equal(t, "image/png", r.Header.Get("Content-Type"))
	require.Equal(t, "inline; filename*=utf-8''%C3%A4%20b.png", r.Header.Get("Content-Disposition"))
	require.Contains(t, r.Header.Get("Content-Security-Policy"), "sandbox")
	r, _ = get(http.MethodGet, "?dl=1")
	require.Contains(t, r.Header.Get("Content-Disposition"), "attachment")
	for _, kind := range []string{"text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "nonsense"} {
		r, _ := get(http.MethodGet, "?type="+url.QueryEscape(kind))
		require.Equal(t, "application/octet-stream", r.Header.Get("Content-Type"), kind)
		require.Contains(t, r.Header.Get("Content-Disposition"), "attachment", kind)
		require.Equal(t, "nosniff", r.Header.Get("X-Content-Type-Options"))
	}
	require.Eventually(t, func() bool { return opened.Load() == closed.Load() }, 30*time.Second, time.Millisecond, "every file is closed")
}

func TestBrokenSourceBreaksTheConnection(t *testing.T) {
	e := start(t, Config{}, func(s *Server) {
		s.App.Get("/f", func(c *fiber.Ctx) error {
			s.SendStream(c, io.NopCloser(io.MultiReader(strings.NewReader("01234"), errReader{})), 10)
			return nil
		})
		s.App.Get("/short", func(c *fiber.Ctx) error {
			s.SendStream(c, io.NopCloser(strings.NewReader("01234")), 10)
			return nil
		})
	})
	for _, path := range []string{"/f", "/short"} {
		r, err := http.Get(e.url + path)
		if err == nil {
			_, err = io.ReadAll(r.Body)
			r.Body.Close()
		}
		require.Error(t, err, path)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("disk") }

func TestClientThatDoesNotReadIsDropped(t *testing.T) {
	src := newSource()
	e := start(t, Config{WriteIdle: 500 * time.Millisecond, Heartbeat: time.Hour}, func(s *Server) {
		s.App.Get("/events", func(c *fiber.Ctx) error { return s.SSE(c, src.feed) })
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return src.open.Load() == 1 }, 30*time.Second, time.Millisecond)
	large := strings.Repeat("x", 8<<20) // more than the sockets' buffers hold
	for range 4 {
		src.say(large)
	}
	require.Eventually(t, func() bool { return src.open.Load() == 0 }, 30*time.Second, time.Millisecond)
}

// TestStoppingDoesNotWaitForStreamsThatNobodyReads has a write stuck on each kind of stream when the stop comes.
func TestStoppingDoesNotWaitForStreamsThatNobodyReads(t *testing.T) {
	src, wsSrc := newSource(), newSource()
	e := start(t, Config{Heartbeat: time.Hour, WriteIdle: time.Hour}, func(s *Server) {
		s.App.Get("/events", func(c *fiber.Ctx) error { return s.SSE(c, src.feed) })
		s.App.Get("/ws", func(c *fiber.Ctx) error { return s.WebSocket(c, wsSrc.feed) })
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(e.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	ws, _, err := websocket.DefaultDialer.Dial(strings.Replace(e.url, "http", "ws", 1)+"/ws", nil)
	require.NoError(t, err)
	defer ws.Close()
	large := strings.Repeat("x", 32<<20) // more than the sockets' buffers hold
	for _, s := range []*source{src, wsSrc} {
		require.Eventually(t, func() bool { return s.open.Load() == 1 }, 30*time.Second, time.Millisecond)
		s.say(large)
		require.Eventually(t, func() bool { return len(s.frames) == 0 }, 30*time.Second, time.Millisecond)
	}
	require.NoError(t, e.stop(30*time.Second))
	require.Zero(t, src.open.Load()+wsSrc.open.Load())
}

func TestShutdownWaitsForRequestsAndThenCutsThem(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	e := start(t, Config{}, func(s *Server) {
		s.App.Get("/slow", func(c *fiber.Ctx) error {
			entered <- struct{}{}
			select {
			case <-release:
				return c.SendString("done")
			case <-c.UserContext().Done():
				return c.UserContext().Err()
			}
		})
	})
	answered := make(chan int, 1)
	go func() {
		r, err := http.Get(e.url + "/slow")
		if err != nil {
			answered <- 0
			return
		}
		r.Body.Close()
		answered <- r.StatusCode
	}()
	<-entered
	go func() {
		<-e.Stopping()
		close(release)
	}()
	require.NoError(t, e.stop(30*time.Second))
	require.Equal(t, http.StatusOK, <-answered)

	entered = make(chan struct{}, 1)
	cut := start(t, Config{}, func(s *Server) {
		s.App.Get("/stuck", func(c *fiber.Ctx) error {
			entered <- struct{}{}
			<-c.UserContext().Done()
			return c.UserContext().Err()
		})
	})
	go func() {
		if r, err := http.Get(cut.url + "/stuck"); err == nil {
			r.Body.Close()
		}
	}()
	<-entered
	require.ErrorIs(t, cut.stop(50*time.Millisecond), context.DeadlineExceeded)
}
