package gpu

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"comfyfleet/models"
)

const (
	maxRuns  = 2  // one prompt executes, one waits behind it
	maxExits = 20 // how many ends of its process a worker remembers
	// maxResident is how many model files are listed as probably in memory.
	maxResident = 32
)

// worker is one engine and the goroutine that owns it (run). Fields below "owned" are touched by that goroutine alone;
// others send it functions through do and read snapshots.
type worker struct {
	m    *Manager
	spec Spec
	dirs dirs
	card *models.Card
	log  *slog.Logger

	calls chan func()
	gone  chan struct{} // closed when run has returned
	snap  atomic.Pointer[models.Worker]
	strip strip
	// readers counts outputs that are being read, for the strip.
	readers atomic.Int32
	// doing is what the executing prompt does, for the strip.
	doing atomic.Pointer[models.SpanKind]

	// owned
	pulse  chan struct{} // closed and replaced with each snapshot
	wish   wish
	state  models.WorkerState
	reason string
	since  time.Time

	child    child
	adopted  bool
	url      string
	clientID string
	started  *time.Time
	sess     *session
	end      *ending // why the session has to end; nil while it may go on
	runs     []*execution
	foreign  string // what the engine runs that is not ours, in plain words
	info     EngineInfo
	answered bool  // the engine of this life has answered
	logFrom  int64 // where the log of this life begins
	rss      int64
	resident []models.ResidentModel
	idle     *time.Time
	freed    bool // models were unloaded in this idle time

	jobs      int // finished on this worker by this server
	restarts  int
	exits     []models.WorkerExit
	ends      []time.Time // unasked ends since the last finished prompt
	retryAt   *time.Time
	victimJob string  // the job that executed when the engine ended
	leftover  *ending // how the process of an earlier server had ended
}

// wish is what operators and the planner want of a worker.
type wish struct {
	up         bool // started on demand
	drain      bool
	disabled   bool
	quarantine string // reason; "" for none
}

// ending is why an engine session ended, as its prompts hear of it.
type ending struct {
	cause  models.Cause // of the prompt that executed
	detail string
	// victim is the attempt that it is about; "" means whatever executed.
	victim string
	// asked means that we wanted it: no backoff, no crash.
	asked bool
	// blameless means that it says nothing about the engine, which is to be started again.
	blameless bool
	// now means that the process must not be asked politely: it hangs.
	now bool
	// detached means that the engine goes on without us.
	detached bool
}

func newWorker(m *Manager, s Spec, card *models.Card) *worker {
	w := &worker{m: m, spec: s, card: card, log: m.cfg.Log.With("worker", s.Name),
		calls: make(chan func()), gone: make(chan struct{}), pulse: make(chan struct{}),
		dirs: workerDirs(m.cfg.DataDir, s.Name), state: models.WorkerStopped, since: m.cfg.Now()}
	w.wish.up = !s.local()
	w.url = s.URL
	w.publish()
	return w
}

// do runs f in the owner's goroutine and returns when it has; false when the worker is gone.
func (w *worker) do(f func()) bool {
	done := make(chan struct{})
	select {
	case w.calls <- func() { defer close(done); f() }:
		<-done
		return true
	case <-w.gone:
		return false
	}
}

// run owns the worker until ctx ends.
func (w *worker) run(ctx context.Context) {
	defer close(w.gone)
	w.recall()
	for ctx.Err() == nil {
		if w.child == nil {
			if state, _, _ := w.next(); state != models.WorkerStarting {
				w.rest(ctx)
				continue
			}
		}
		w.live(ctx)
	}
	if w.child != nil { // adopted, but never lived
		w.leave(ctx)
	}
	w.set(models.WorkerStopped, "the server stops")
}

// next is the state that a worker without an engine should be in; WorkerStarting means: start it.
func (w *worker) next() (s models.WorkerState, reason string, until *time.Time) {
	switch {
	case w.wish.disabled:
		return models.WorkerDisabled, "disabled by an operator", nil
	case w.wish.quarantine != "":
		return models.WorkerQuarantined, w.wish.quarantine, nil
	case !w.wish.up:
		return models.WorkerStopped, "", nil
	case w.retryAt != nil && w.m.cfg.Now().Before(*w.retryAt):
		return models.WorkerBackoff, w.lastReason(), w.retryAt
	}
	return models.WorkerStarting, "", nil
}

func (w *worker) lastReason() string {
	if n := len(w.exits); n > 0 {
		return w.exits[n-1].Reason
	}
	return ""
}

// rest waits without an engine until something makes the worker start.
func (w *worker) rest(ctx context.Context) {
	state, reason, until := w.next()
	w.set(state, reason)
	var due <-chan time.Time
	if until != nil {
		t := time.NewTimer(until.Sub(w.m.cfg.Now()))
		defer t.Stop()
		due = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
			w.retryAt = nil
			return
		case f := <-w.calls:
			f()
			if now, why, _ := w.next(); now != state || why != reason {
				return
			}
			w.publish() // a wish may have changed that does not show in the state
		}
	}
}

// set changes the state and publishes it.
func (w *worker) set(s models.WorkerState, reason string) {
	if w.state != s {
		w.log.Info("worker", "state", s, "was", w.state, "reason", reason)
		w.since = w.m.cfg.Now()
	}
	w.state, w.reason = s, reason
	w.publish()
}

// settle sets the state of a worker whose engine answers, by what it has to do.
func (w *worker) settle() {
	switch {
	case w.end != nil:
		w.set(models.WorkerStopping, w.end.detail)
		return
	case w.wish.disabled:
		w.set(models.WorkerDraining, "disabled by an operator")
	case w.wish.drain:
		w.set(models.WorkerDraining, "drained by an operator")
	case w.wearOut() != "":
		w.set(models.WorkerDraining, w.wearOut())
	case len(w.runs) > 0 || w.foreign != "":
		w.set(models.WorkerBusy, w.foreign)
	default:
		w.set(models.WorkerReady, "")
	}
	// What is staged would hold up an operator; it runs elsewhere at once.
	if w.wish.disabled || w.wish.drain {
		for _, x := range w.runs {
			x.stop(models.CauseTakenBack)
		}
	}
}

// wearOut says why the process is to be replaced when it is idle, "" if it is not.
func (w *worker) wearOut() string {
	cfg := w.m.cfg
	switch {
	case !w.spec.local() || w.sess == nil:
		return ""
	case cfg.RecycleJobs > 0 && w.sess.jobs >= cfg.RecycleJobs:
		return "restarts after so many jobs"
	case cfg.RecycleRSS > 0 && w.rss > cfg.RecycleRSS && w.sess.jobs > 0:
		return "restarts because its memory has grown"
	case w.sess.outdated:
		return "restarts with the new settings"
	}
	return ""
}

// leaveReason is why a worker without prompts should end its engine now, nil if it should not.
func (w *worker) leaveReason() *ending {
	if len(w.runs) > 0 || (w.spec.local() && w.foreign != "") {
		return nil
	}
	if w.adopted && w.m.cfg.Now().Before(w.sess.began.Add(w.m.cfg.ResumeGrace)) {
		return nil // the prompts in it may not have been claimed yet
	}
	switch why := w.wearOut(); {
	case w.wish.disabled:
		return &ending{asked: true, detail: "disabled by an operator"}
	case !w.wish.up:
		return &ending{asked: true, detail: "idle"}
	case why != "":
		return &ending{asked: true, detail: why}
	}
	return nil
}

// fault asks for the end of session s. The first reason wins.
func (w *worker) fault(s *session, e ending) {
	w.do(func() { w.faulted(s, e) })
}

func (w *worker) faulted(s *session, e ending) {
	if w.sess == s && w.end == nil {
		w.end = &e
	}
}

// admit gives x a place, or says why not. Prompts of an earlier server get theirs whatever else is there.
func (w *worker) admit(x *execution) (refused string) {
	ok := w.do(func() {
		up := w.state == models.WorkerReady || w.state == models.WorkerBusy
		switch {
		case x.task.Resume:
		case !up || w.sess == nil || w.end != nil:
			refused = w.spec.Name + " is " + string(w.state)
			return
		case len(w.runs) >= maxRuns:
			refused = w.spec.Name + " has two prompts already"
			return
		}
		w.runs = append(w.runs, x)
		w.idle = nil
		w.wish.up = true // a release that came a moment ago lost
		if w.sess != nil {
			w.settle()
		} else {
			w.publish()
		}
	})
	if !ok {
		return "the server stops"
	}
	return refused
}

// dismiss takes x's place back.
func (w *worker) dismiss(x *execution) {
	w.do(func() {
		w.runs = slices.DeleteFunc(w.runs, func(r *execution) bool { return r == x })
		w.doing.Store(nil)
		if len(w.runs) == 0 {
			w.idle, w.freed = new(w.m.cfg.Now()), false
		}
		if w.sess != nil {
			w.sess.nudge() // the next one executes now, and its event may be lost
			w.settle()
		} else {
			w.publish()
		}
	})
}

// finished notes a prompt that ran to its end on session s, well or not: the engine works.
func (w *worker) finished(s *session, files []string) {
	used := w.measure(files)
	w.do(func() {
		w.jobs++
		w.ends, w.retryAt = nil, nil
		if w.sess != s {
			return
		}
		s.jobs++
		w.resident = remember(w.resident, used)
		w.publish()
	})
}
