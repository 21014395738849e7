package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"comfyfleet/gpu/proc"
	"comfyfleet/models"
)

// observerLimit bounds one write of an observer.
const observerLimit = 30 * time.Second

// execution is one prompt on one worker, from its media to its end. Its own goroutine, Execute's caller, runs it; others
// only stop it and put events into its box.
//
//	attach ──▶ stage media ──▶ fence ──▶ submit ──▶ follow ──▶ Outcome
//	   └────────────── resume ────────────────────────▲
type execution struct {
	w    *worker
	s    *session // nil until attached
	task Task
	obs  Observer
	box  *mailbox
	// begun says that the engine was seen executing the prompt.
	begun atomic.Bool
	// sentNS is sentAt in Unix nanoseconds, 0 before, for the prompts beside it.
	sentNS atomic.Int64

	// intake ends when the prompt need not be sent any more.
	intake context.Context
	refuse context.CancelCauseFunc
	stops  chan models.Cause
	mu     sync.Mutex
	asked  map[models.Cause]bool

	// The rest belongs to the execution's goroutine.
	progress *tracker
	sentAt   time.Time
	startAt  time.Time
	logFrom  int64
	ending   models.Cause // why it was stopped, "" while it was not
	graceEnd time.Time    // when a stopping server interrupts it
	looked   time.Time    // when the engine was last asked about it
	raised   *Exception
	closing  bool // the engine said that it is done: history exists, or will at once
	absent   int  // looks in a row that found it nowhere
	broken   int  // looks in a row at a history that cannot be read
	asleep   bool // the socket was renewed in this silence

	// Times of the awake clock, by which engines are judged.
	heard    time.Time // last event about this prompt
	stuck    time.Time // since when it was seen first in a queue that runs nothing
	endSince time.Time
	toldAt   time.Time // when the engine first answered that it is to stop the prompt
}

func newExecution(w *worker, t Task, o Observer) *execution {
	x := &execution{w: w, task: t, obs: o, box: newMailbox(), stops: make(chan models.Cause, 8), asked: map[models.Cause]bool{},
		progress: newTracker(t.Nodes, t.LoaderNodes, t.Floor)}
	x.intake, x.refuse = context.WithCancelCause(context.Background())
	x.begun.Store(t.Resume && t.Started)
	return x
}

// stop asks for the prompt's end. It may be called from anywhere and does not wait.
func (x *execution) stop(cause models.Cause) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.asked[cause] || len(x.asked) == cap(x.stops) {
		return
	}
	x.asked[cause] = true
	x.stops <- cause
	x.refuse(stopped{cause})
}

// stopped is the cause of an ended intake.
type stopped struct{ cause models.Cause }

func (s stopped) Error() string { return "stopped: " + string(s.cause) }

// run takes the prompt to its end. ctx ends with the server.
func (x *execution) run(ctx context.Context) Outcome {
	defer x.refuse(nil)
	if d := x.task.DeadlineAt; d != nil {
		t := time.AfterFunc(d.Sub(x.w.m.cfg.Now()), func() { x.stop(models.CauseDeadline) })
		defer t.Stop()
	}
	// A stopping server sends nothing new.
	end := context.AfterFunc(ctx, func() { x.refuse(stopped{models.CauseServerStop}) })
	defer end()

	if out := x.attach(ctx); out != nil {
		return *out
	}
	defer x.s.unregister(x)
	x.logFrom = proc.LogSize(x.w.dirs.logFile())
	if !x.task.Resume {
		if out := x.send(); out != nil {
			return *out
		}
	} else {
		x.sentAt, x.heard = x.now(), x.awake()
		x.sentNS.Store(x.sentAt.UnixNano())
		if x.task.Started {
			x.startAt = x.now()
		}
	}
	return x.follow(ctx)
}

// attach waits for the session to run in. Usually it is there; a prompt of an earlier server waits for its engine to
// answer again, and one that needs a fresh process for its restart.
func (x *execution) attach(ctx context.Context) *Outcome {
	limit := time.NewTimer(x.w.m.cfg.StartTimeout + x.w.m.cfg.InterruptLimit)
	defer limit.Stop()
	intake := x.intake.Done()
	for {
		s, pulse, out := x.join()
		if out != nil || s != nil {
			return out
		}
		select {
		case <-pulse:
		case <-intake:
			if !x.task.Resume {
				return x.turnedAway()
			}
			// The engine may execute it: only a stop that is over with the engine ends it. A server that stops
			// leaves it to the next one.
			if ctx.Err() != nil || x.w.m.isStopping() {
				return &Outcome{Detached: true}
			}
			intake = nil
		case <-x.w.gone:
			if x.task.Resume {
				return &Outcome{Detached: true}
			}
			return x.turnedAway()
		case <-limit.C:
			return x.refused(models.CauseUnreachable, x.w.spec.Name+" did not answer in time")
		}
	}
}

// join registers x with the worker's session. Without one it answers what to wait for, or how x has ended.
func (x *execution) join() (s *session, pulse <-chan struct{}, out *Outcome) {
	w := x.w
	w.do(func() {
		pulse = w.pulse
		switch {
		case x.task.Resume && w.leftover != nil:
			out = x.refused(w.leftover.cause, w.leftover.detail)
		case w.sess != nil && w.end == nil && x.wantsFresh(w.sess):
			if len(w.runs) == 1 {
				w.end = &ending{asked: true, detail: "a prompt needs a fresh process"}
			}
		case w.sess != nil && w.end == nil:
			s = w.sess
			x.s = s
			s.register(x)
		case w.child != nil || w.state == models.WorkerStarting || w.state == models.WorkerStopping || !w.spec.local():
		default:
			if state, why, _ := w.next(); state != models.WorkerStarting {
				out = x.refused(models.CauseTakenBack, w.spec.Name+" is "+string(state)+": "+why)
			}
		}
	})
	if s != nil && x.task.FreshProcess && !x.task.Resume && !s.local {
		_ = s.free(true) // all that can be done for somebody else's process
	}
	return s, pulse, out
}

func (x *execution) wantsFresh(s *session) bool {
	return x.task.FreshProcess && !x.task.Resume && s.local && s.jobs > 0
}

// refused is the outcome of a prompt that this server did not get to an engine.
func (x *execution) refused(c models.Cause, detail string) *Outcome {
	return &Outcome{Cause: c, Detail: detail, Started: x.task.Resume && x.task.Started}
}

// turnedAway is the outcome of a prompt that was stopped before it was sent.
func (x *execution) turnedAway() *Outcome {
	var s stopped
	if errors.As(context.Cause(x.intake), &s) {
		return x.refused(s.cause, "stopped before it was sent")
	}
	return x.refused(models.CauseServerStop, "the server stops")
}

func (x *execution) now() time.Time { return x.w.m.cfg.Now() }

// awake is the clock of the engine's silence.
func (x *execution) awake() time.Time { return x.w.m.awake.Now() }

// observe calls the observer within a limit of its own: a stopping server still writes down what happened.
func (x *execution) observe(f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), observerLimit)
	defer cancel()
	return f(ctx)
}

// markStarted notes that the engine executes the prompt.
func (x *execution) markStarted(at time.Time) {
	if !x.startAt.IsZero() {
		return
	}
	x.startAt, x.heard = at, x.awake()
	x.progress.start(at)
	x.begun.Store(true)
	x.show()
	x.w.do(func() {}) // its place in the snapshot is the executing one now
	if x.task.Resume && x.task.Started {
		return
	}
	if err := x.observe(func(ctx context.Context) error { return x.obs.Started(ctx, at) }); err != nil {
		x.drop("started", err)
	}
}

// drop stops the prompt because what happened to it could not be written down: its job has moved on, or our store fails.
func (x *execution) drop(what string, err error) {
	if errors.Is(err, models.ErrFenced) {
		x.end(models.CauseCanceled)
		return
	}
	x.w.log.Error("write down that a prompt was "+what, "attempt", x.task.AttemptID, "error", err)
	x.end(models.CauseInternal)
}

// show tells the strip what the card does for this prompt.
func (x *execution) show() {
	if !x.begun.Load() {
		return
	}
	kind := models.SpanSampling
	if x.progress.phase == models.PhaseLoading {
		kind = models.SpanLoading
	}
	if old := x.w.doing.Load(); old == nil || *old != kind {
		x.w.doing.Store(&kind)
		x.w.mark()
	}
}

// outcome is what every end knows.
func (x *execution) outcome(end time.Time) Outcome {
	out := Outcome{Cause: x.ending, Started: !x.startAt.IsZero() || x.task.Started, StartedAt: x.startAt, EndedAt: end}
	if x.s != nil {
		out.PID = x.s.pid
	}
	if !x.startAt.IsZero() {
		out.NodeTimes, out.LoadMS = x.progress.sum(end)
		total := max(0, end.Sub(x.startAt).Milliseconds())
		out.LoadMS = min(out.LoadMS, total)
		out.ExecMS = total - out.LoadMS
	}
	if x.ending != "" {
		out.Detail = fmt.Sprintf("stopped: %s", x.ending)
	}
	return out
}

// tail is what the engine logged while the prompt was there.
func (x *execution) tail() []string {
	if !x.w.spec.local() {
		return nil
	}
	lines, err := proc.TailSince(x.w.dirs.logFile(), x.logFrom, tailLines)
	if err != nil {
		x.w.log.Warn("read the engine's log", "error", err)
	}
	return lines
}
