package web

import (
	"context"
	"slices"
	"time"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// Fleet and people

func (h *house) Workers() []models.Worker {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.workers)
}

func (h *house) Worker(name string) (models.Worker, bool) {
	for _, w := range h.Workers() {
		if w.Name == name {
			return w, true
		}
	}
	return models.Worker{}, false
}

func (h *house) Changes() (<-chan struct{}, func()) { return h.subscribe() }

func (h *house) verb(verb, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did("%s %s", verb, name)
	for i := range h.workers {
		if w := &h.workers[i]; w.Name == name {
			w.WantDrain = verb == "drain" || w.WantDrain && verb != "resume"
		}
	}
	return nil
}

func (h *house) Drain(_ context.Context, n string) error           { return h.verb("drain", n) }
func (h *house) Resume(_ context.Context, n string) error          { return h.verb("resume", n) }
func (h *house) Restart(_ context.Context, n string) error         { return h.verb("restart", n) }
func (h *house) Free(_ context.Context, n string) error            { return h.verb("free", n) }
func (h *house) Disable(_ context.Context, n string) error         { return h.verb("disable", n) }
func (h *house) Enable(_ context.Context, n string) error          { return h.verb("enable", n) }
func (h *house) ClearQuarantine(_ context.Context, n string) error { return h.verb("clear", n) }
func (h *house) Start(n string)                                    { _ = h.verb("start", n) }

func (h *house) Log(name string, lines int) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.logs[name]
	return l[max(0, len(l)-lines):], nil
}

func (h *house) Spans(name string, _ time.Time) []models.Span {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.spans[name]
}

// People

func (h *house) OperatorByEmail(ctx context.Context, email string) (models.Operator, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.people {
		if o.Email == email {
			return o, nil
		}
	}
	return models.Operator{}, models.ErrNotFound("operator")
}

func (h *house) UpdateOperator(ctx context.Context, o models.Operator) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.people {
		if h.people[i].ID == o.ID {
			h.people[i] = o
		}
	}
	return nil
}

func (h *house) CreateSession(ctx context.Context, s models.Session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions[s.Hash] = s
	return nil
}

func (h *house) SessionByHash(ctx context.Context, hash string) (models.Session, models.Operator, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.sessions[hash]
	for _, o := range h.people {
		if ok && o.ID == s.OperatorID {
			return s, o, nil
		}
	}
	return models.Session{}, models.Operator{}, models.ErrNotFound("session")
}

func (h *house) TouchSession(ctx context.Context, hash string, at time.Time) error { return nil }

func (h *house) DeleteSession(ctx context.Context, hash string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, hash)
	return nil
}

func (h *house) Audit(ctx context.Context, e models.AuditEntry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.audit = append(h.audit, e)
	return nil
}

// signIn makes a person with a role and a session of theirs.
func (h *house) signIn(role models.Role) (cookie string, s models.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o := models.Operator{ID: "o-" + string(role), Email: string(role) + "@example.com", Role: role}
	h.people = append(h.people, o)
	cookie, s = auth.NewSession(o, "127.0.0.1", "test", h.now)
	h.sessions[s.Hash] = s
	return cookie, s
}
