package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/fasthttp/websocket"
)

// maxBacklog bounds the events that wait for the publisher; then the worker waits. ComfyUI lets them pile up.
const maxBacklog = 1 << 14

// hub is ComfyUI's table of sockets and its single publisher. The table is by client id, one socket each: a second
// socket takes the place of the first, and the end of either removes whatever is in the table, which makes an
// overlapping reconnect go silent. One socket that does not read stalls the publisher for all.
type hub struct {
	faults *faults
	die    func(text string) // the publisher broke: the process ends
	queue  chan event

	mu      sync.Mutex
	sockets map[string]*socket
	open    map[*socket]struct{} // all, also those that the table has lost
}

// event waits for the publisher. Exactly one of data and binary is set; an empty to means every socket in the table.
type event struct {
	kind   string
	data   any
	binary []byte
	to     string
	at     time.Time
}

// socket is one WebSocket connection.
type socket struct {
	conn     *websocket.Conn
	mu       sync.Mutex // one writer at a time
	sent     int
	metadata bool // the client understands previews with metadata
}

func newHub(f *faults, die func(string)) *hub {
	return &hub{faults: f, die: die, queue: make(chan event, maxBacklog), sockets: map[string]*socket{}, open: map[*socket]struct{}{}}
}

// send hands an event to the publisher. It waits while the backlog is full, until ctx ends.
func (h *hub) send(ctx context.Context, e event) {
	e.at = time.Now()
	select {
	case h.queue <- e:
	case <-ctx.Done():
	}
}

// publish sends events in order until ctx ends.
func (h *hub) publish(ctx context.Context) {
	late := h.faults.duration("ws-late")
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-h.queue:
			if late > 0 {
				pause(ctx, time.Until(e.at.Add(late)))
			}
			h.deliver(e)
		}
	}
}

func (h *hub) deliver(e event) {
	targets := h.targets(e.to)
	if len(targets) == 0 {
		return // not even encoded, so that poison harms only when somebody listens
	}
	kind, payload := websocket.BinaryMessage, e.binary
	if payload == nil {
		text, err := envelope(e.kind, e.data)
		if err != nil {
			h.die(fmt.Sprintf("publishing %s: %v", e.kind, err))
			return
		}
		kind, payload = websocket.TextMessage, text
	}
	for _, s := range targets {
		h.write(s, kind, payload)
	}
}

func (h *hub) targets(to string) []*socket {
	h.mu.Lock()
	defer h.mu.Unlock()
	if to != "" {
		if s := h.sockets[to]; s != nil {
			return []*socket{s}
		}
		return nil
	}
	all := make([]*socket, 0, len(h.sockets))
	for _, id := range sortedKeys(h.sockets) {
		all = append(all, h.sockets[id])
	}
	return all
}

// envelope is {"type":…,"data":…}. Encoded data passes as it is.
func envelope(kind string, data any) ([]byte, error) {
	raw, ok := data.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(data); err != nil {
			return nil, err
		}
	}
	out := make([]byte, 0, len(raw)+len(kind)+24)
	out = append(append(append(out, `{"type": "`...), kind...), `", "data": `...)
	return append(append(out, raw...), '}'), nil
}

// write sends one frame. A failed write is the reader's to notice, as in ComfyUI.
func (h *hub) write(s *socket, kind int, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent > 0 && h.faults.has("ws-silent") {
		return
	}
	times := 1
	if h.faults.has("ws-duplicate") {
		times = 2
	}
	for range times {
		_ = s.conn.WriteMessage(kind, payload)
	}
	s.sent++
	if n := h.faults.number("ws-drop-after"); n > 0 && int64(s.sent) >= n {
		_ = s.conn.NetConn().Close()
	}
}

// writeNow sends past the publisher, as the connection handler does for its first messages.
func (h *hub) writeNow(s *socket, kind string, data any) {
	if text, err := envelope(kind, data); err == nil {
		h.write(s, websocket.TextMessage, text)
	}
}

// add puts a socket into the table under id.
func (h *hub) add(id string, s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sockets[id] = s
	h.open[s] = struct{}{}
}

// drop removes what the table has under id, which may be a newer socket than s.
func (h *hub) drop(id string, s *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets, id)
	delete(h.open, s)
}

// setMetadata notes what the socket that the table has under id understands.
func (h *hub) setMetadata(id string, yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sockets[id]; s != nil {
		s.metadata = yes
	}
}

// listens says whether anybody gets events for that client id, and whether it understands preview metadata.
func (h *hub) listens(to string) (any, metadata bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if to == "" {
		return len(h.sockets) > 0, false
	}
	s := h.sockets[to]
	return s != nil, s != nil && s.metadata
}

// closeAll cuts every connection without a handshake, as a dying process does.
func (h *hub) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.open {
		_ = s.conn.NetConn().Close()
	}
}

// pause sleeps for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
