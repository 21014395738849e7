package gpu

import "sync"

// maxMail bounds the events that wait for one prompt. Only hints are ever dropped: what matters is asked for by HTTP.
const maxMail = 2048

// mailbox holds a prompt's events between the socket, which must not wait, and the prompt's own goroutine.
type mailbox struct {
	mu      sync.Mutex
	events  []Event
	preview *Event
	look    bool
	wake    chan struct{} // holds one token
}

func newMailbox() *mailbox { return &mailbox{wake: make(chan struct{}, 1)} }

// put adds an event. Of step counters, progress states and previews in a row only the newest is kept.
func (m *mailbox) put(e Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.events)
	switch {
	case e.Kind == EventPreview:
		m.preview = &e
	case n > 0 && m.events[n-1].Kind == e.Kind && m.events[n-1].Node == e.Node && (e.Kind == EventSteps || e.Kind == EventNodes):
		m.events[n-1] = e
	case n >= maxMail:
		m.look = true
	default:
		m.events = append(m.events, e)
	}
	m.signal()
}

// nudge asks the prompt to look at the engine.
func (m *mailbox) nudge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look = true
	m.signal()
}

func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take empties the box.
func (m *mailbox) take() (events []Event, preview *Event, look bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	events, preview, look = m.events, m.preview, m.look
	m.events, m.preview, m.look = nil, nil, false
	return events, preview, look
}
