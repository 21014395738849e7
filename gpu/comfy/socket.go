package comfy

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/fasthttp/websocket"

	"comfyfleet/gpu"
)

const (
	// messageMax bounds one message: previews and progress states of large graphs are megabytes at most.
	messageMax = 64 << 20
	// greetWait is how long the engine may take to send its first status.
	greetWait = 10 * time.Second
	// writeWait bounds a ping or a close frame.
	writeWait = 5 * time.Second
	// closeWait is how long the engine may take to answer a close frame.
	closeWait = 2 * time.Second
)

// featureFlags must be the first message. It asks for previews that name their node and prompt.
const featureFlags = `{"type":"feature_flags","data":{"supports_preview_metadata":true}}`

// socket is one WebSocket connection: the goroutine of listen reads, a second one pings and closes.
type socket struct {
	conn *websocket.Conn
	opts Options

	mu      sync.Mutex
	closing bool
}

// dial opens the connection. Compression is not offered: previews are compressed already.
func (c *Client) dial(ctx context.Context, clientID string) (*socket, error) {
	if c.bad != nil {
		return nil, c.bad
	}
	u := *c.base.JoinPath("/ws")
	u.Scheme = map[string]string{"http": "ws", "https": "wss"}[u.Scheme]
	q := u.Query()
	q.Set("clientId", clientID)
	u.RawQuery = q.Encode()
	head := http.Header{"User-Agent": {"comfyfleet"}}
	if u.User != nil { // the dialer refuses an address with a password
		pass, _ := u.User.Password()
		head.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+pass)))
		u.User = nil
	}
	d := websocket.Dialer{
		NetDialContext:   c.dials,
		HandshakeTimeout: greetWait,
		ReadBufferSize:   32 << 10,
		WriteBufferSize:  1 << 10,
	}
	conn, _, err := d.DialContext(ctx, u.String(), head) // on an error the response's body is in memory
	if err != nil {
		return nil, unreachable(http.MethodGet, "/ws", err)
	}
	s := &socket{conn: conn, opts: c.opts}
	conn.SetReadLimit(messageMax)
	conn.SetPongHandler(func(string) error { s.heard(); return nil })
	return s, nil
}

// listen holds one connection until it breaks or ctx ends. greeted says whether EventConnected was sent.
func (c *Client) listen(ctx context.Context, clientID string, sink func(gpu.Event)) (greeted bool) {
	s, err := c.dial(ctx, clientID)
	if err != nil {
		return false
	}
	var keeper sync.WaitGroup
	over := make(chan struct{})
	keeper.Go(func() { s.keep(ctx, over) })
	defer func() {
		close(over)
		keeper.Wait()
		s.sendClose() // the engine then forgets the client id before we come back
		_ = s.conn.Close()
	}()
	if s.hello() != nil {
		return false
	}
	d := &decoder{}
	for {
		e, ok, err := s.next(d)
		if err != nil {
			return greeted
		}
		if ctx.Err() != nil {
			continue // until the engine has answered our close: it has forgotten the client id then
		}
		if !greeted {
			greeted = true
			sink(gpu.Event{Kind: gpu.EventConnected, At: c.opts.Now()})
		}
		if ok {
			e.At = c.opts.Now()
			sink(e)
		}
	}
}

// hello sends the feature flags and gives the engine greetWait for its first message.
func (s *socket) hello() error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return err
	}
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(featureFlags)); err != nil {
		return fmt.Errorf("send the feature flags: %w", err)
	}
	return s.expect(greetWait)
}

// next reads one message; ok is false when it is of no use. After an error the socket must not be read again.
func (s *socket) next(d *decoder) (e gpu.Event, ok bool, err error) {
	kind, raw, err := s.conn.ReadMessage()
	if err != nil {
		return gpu.Event{}, false, err
	}
	s.heard()
	if kind == websocket.BinaryMessage {
		e, ok = frame(raw)
	} else {
		e, ok = d.text(raw)
	}
	return e, ok, nil
}

// heard gives the engine another PongWait.
func (s *socket) heard() { _ = s.expect(s.opts.PongWait) }

// expect sets the time for the next sign of life, unless the socket is being closed.
func (s *socket) expect(within time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil
	}
	return s.conn.SetReadDeadline(time.Now().Add(within))
}

// keep pings until the connection is over. When ctx ends it closes with a handshake: the reader ends with the engine's
// answer, or after closeWait.
func (s *socket) keep(ctx context.Context, over <-chan struct{}) {
	tick := time.NewTicker(s.opts.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-ctx.Done():
			s.mu.Lock()
			s.closing = true
			_ = s.conn.SetReadDeadline(time.Now().Add(closeWait))
			s.mu.Unlock()
			s.sendClose()
			return
		case <-tick.C:
			if s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWait)) != nil {
				_ = s.conn.Close() // wakes the reader
				return
			}
		}
	}
}

// sendClose sends a close frame; a second one is not sent by the library.
func (s *socket) sendClose() {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = s.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeWait))
}
