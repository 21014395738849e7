package gpu

import (
	"context"
	"fmt"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

// What operators and the planner can do to a worker. Wishes are stored before the verb returns, and outlive the server.

// Start starts a stopped worker. It does nothing for one that runs, waits for its backoff or was taken out.
func (m *Manager) Start(name string) {
	if w := m.byName[name]; w != nil {
		w.do(func() { w.wish.up = true })
	}
}

// Release stops an idle worker until it is wanted again. A worker that has got a prompt meanwhile keeps it, and an
// attached one is never stopped.
func (m *Manager) Release(name string) {
	if w := m.byName[name]; w != nil && w.spec.local() {
		w.do(func() {
			if len(w.runs) == 0 {
				w.wish.up = false
			}
		})
	}
}

// Drain lets the worker finish what executes and give it nothing new; what is staged goes elsewhere.
func (m *Manager) Drain(ctx context.Context, name string) error {
	return m.want(ctx, name, func(w *worker) { w.wish.drain = true })
}

// Resume ends a drain.
func (m *Manager) Resume(ctx context.Context, name string) error {
	return m.want(ctx, name, func(w *worker) { w.wish.drain = false })
}

// Disable drains the worker and then stops its engine, until Enable.
func (m *Manager) Disable(ctx context.Context, name string) error {
	return m.want(ctx, name, func(w *worker) { w.wish.disabled = true })
}

// Enable makes a disabled worker usable again.
func (m *Manager) Enable(ctx context.Context, name string) error {
	return m.want(ctx, name, func(w *worker) {
		w.wish.disabled = false
		w.wish.up = w.wish.up || !w.spec.local()
	})
}

// ClearQuarantine forgets why the worker was taken out, and starts it.
func (m *Manager) ClearQuarantine(ctx context.Context, name string) error {
	return m.want(ctx, name, func(w *worker) {
		w.wish.quarantine, w.ends, w.retryAt, w.wish.up = "", nil, nil, true
	})
}

// want changes a worker's wishes and stores them.
func (m *Manager) want(ctx context.Context, name string, change func(w *worker)) error {
	w, err := m.find(name)
	if err != nil {
		return err
	}
	var r models.WorkerRecord
	if !w.do(func() { change(w); r = w.record() }) {
		return errStopping()
	}
	if err := m.save(ctx, r); err != nil {
		return fmt.Errorf("store the wish for %s: %w", name, err)
	}
	return nil
}

// record is what is stored of the worker; called by its owner.
func (w *worker) record() models.WorkerRecord {
	return models.WorkerRecord{Name: w.spec.Name, Disabled: w.wish.disabled, Draining: w.wish.drain,
		Quarantine: w.wish.quarantine, UpdatedAt: w.m.cfg.Now().UTC()}
}

// Restart ends the worker's engine at once and starts it again; a prompt that executes is lost and runs again. An
// attached engine cannot be restarted.
func (m *Manager) Restart(ctx context.Context, name string) error {
	w, err := m.find(name)
	if err != nil {
		return err
	}
	if !w.spec.local() {
		return models.Errorf(models.CodeConflict, "worker_attached", "%s is run by somebody else and cannot be restarted from here", name)
	}
	if !w.do(func() {
		w.wish.up, w.retryAt = true, nil
		if w.sess != nil {
			w.faulted(w.sess, ending{cause: models.CauseCrashed, detail: "restarted by an operator", asked: true})
		}
	}) {
		return errStopping()
	}
	return nil
}

// Free unloads the worker's models and drops its node cache; a prompt that executes is not disturbed.
func (m *Manager) Free(ctx context.Context, name string) error {
	w, err := m.find(name)
	if err != nil {
		return err
	}
	var s *session
	w.do(func() { s = w.sess })
	if s == nil {
		return models.Errorf(models.CodeConflict, "worker_down", "%s has no engine that answers", name)
	}
	if err := s.free(true); err != nil {
		return &models.Error{Code: models.CodeUnavailable, Name: "worker_unreachable", Detail: name + " did not answer", Err: err}
	}
	return nil
}

// Log is the end of a local worker's log, without colours.
func (m *Manager) Log(name string, lines int) ([]string, error) {
	w, err := m.find(name)
	if err != nil {
		return nil, err
	}
	if !w.spec.local() {
		return nil, models.Errorf(models.CodeConflict, "worker_attached", "the log of %s is where it runs", name)
	}
	return proc.Tail(w.dirs.logFile(), lines)
}

// Spans are what the worker did since then, at most an hour back.
func (m *Manager) Spans(name string, since time.Time) []models.Span {
	w := m.byName[name]
	if w == nil {
		return nil
	}
	return w.strip.since(since)
}

// Telemetry are the readings of the worker's card since then: each second of the last ten minutes, each minute of the
// day before. Empty without a driver.
func (m *Manager) Telemetry(name string, since time.Time) []models.Telemetry {
	return m.heat.since(name, since)
}

func (m *Manager) find(name string) (*worker, error) {
	if w := m.byName[name]; w != nil {
		return w, nil
	}
	return nil, models.ErrNotFound("worker")
}

func errStopping() error {
	return models.Errorf(models.CodeUnavailable, "stopping", "the server stops")
}
