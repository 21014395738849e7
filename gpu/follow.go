package gpu

import (
	"context"
	"errors"
	"time"

	"comfyfleet/models"
)

const (
	// pollSilent is how long the socket may be silent before HTTP is asked: what bounds the delay of an end whose
	// event was lost.
	pollSilent = 2 * time.Second
	// pollSoon is the interval when the end is near: the engine said so, or was told to stop.
	pollSoon = 500 * time.Millisecond
	// pollStaged is pollSilent for a prompt that waits behind another of ours.
	pollStaged = 5 * time.Second
	// pollNext is the time to a second look at a prompt that was nowhere.
	pollNext = 300 * time.Millisecond
	// pollStop is the interval at which an interrupt is repeated: they are lost when the prompt has just begun.
	pollStop = 500 * time.Millisecond
	// stuckLimit is how long an engine may leave our prompt first in its queue without running anything: its worker
	// thread is dead then, though HTTP answers.
	stuckLimit = time.Minute
)

// place is where the engine has a prompt.
type place int

const (
	placeUnknown place = iota // the engine did not answer
	placePending
	placeRunning
	placeDone    // in the history
	placeBroken  // not in the queue, and the history cannot be read
	placeNowhere // neither
)

// look asks the engine where the prompt is. History comes first because it is cheap; it is asked again when the queue
// does not have the prompt, which may have ended between the two.
func (x *execution) look() (place, *History, Queue) {
	ctx, cancel := x.s.call()
	defer cancel()
	h, herr := x.s.engine.History(ctx, x.task.AttemptID)
	if h != nil {
		return placeDone, h, Queue{}
	}
	q, err := x.s.engine.Queue(ctx)
	if err != nil {
		return placeUnknown, nil, q
	}
	switch running, pending := q.Has(x.task.AttemptID); {
	case running:
		return placeRunning, nil, q
	case pending:
		return placePending, nil, q
	}
	if herr == nil {
		h, herr = x.s.engine.History(ctx, x.task.AttemptID)
	}
	var broken interface{ HistoryBroken() bool }
	switch {
	case h != nil:
		return placeDone, h, q
	case errors.As(herr, &broken) && broken.HistoryBroken():
		return placeBroken, nil, q
	case herr != nil:
		return placeUnknown, nil, q
	}
	return placeNowhere, nil, q
}

// follow goes on until the prompt's end on the engine is certain. Events are hints; only the history, or the certain
// absence of the prompt, is an end.
func (x *execution) follow(ctx context.Context) Outcome {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stopping, over := x.w.m.stopping, ctx.Done()
	if x.task.Resume || x.ending != "" {
		x.box.nudge()
	} else {
		timer.Reset(pollSilent)
	}
	for {
		look := false
		select {
		case <-x.s.ctx.Done():
			return x.lost()
		case <-x.box.wake:
			look = x.read()
		case <-timer.C:
			look = true
		case c := <-x.stops:
			look = x.end(c)
		case <-stopping:
			stopping, look = nil, true
		case <-over:
			over, look = nil, true
		}
		if stopping == nil || over == nil {
			if x.w.m.cfg.OnShutdown == ShutdownKeep {
				return Outcome{Detached: true}
			}
			x.wind()
		}
		if look {
			if out := x.check(); out != nil {
				return *out
			}
		}
		timer.Reset(x.pause())
	}
}

// read takes the events that came, and reports whether to look at the engine at once.
func (x *execution) read() (look bool) {
	events, preview, look := x.box.take()
	changed := false
	for _, e := range events {
		if !e.greets() {
			x.heard, x.asleep = x.awake(), false
		}
		switch e.Kind {
		case EventStart:
			x.markStarted(e.At)
		case EventExecuted:
			if len(e.Outputs) > 0 {
				x.obs.Made(e.Outputs)
			}
		case EventException:
			x.raised = e.Exception
		case EventEnd:
			look, x.closing = true, true
		case EventSuccess, EventInterrupted:
			x.closing = true
		}
		changed = x.progress.apply(e) || changed
	}
	if changed {
		x.obs.Progress(x.progress.now, x.progress.phase)
		x.show()
	}
	if preview != nil {
		x.heard = x.awake()
		x.obs.Preview(preview.Image, preview.ImageType, preview.Node)
	}
	return look
}

// pause is the time to the next look when no event comes before it. Every event puts the look off, save when the prompt
// is to end: one that goes on talking must hear it.
func (x *execution) pause() time.Duration {
	switch {
	case x.absent > 0 || x.broken > 0:
		return pollNext
	case x.ending != "" || x.graceOver():
		return max(0, pollStop-x.now().Sub(x.looked))
	case !x.graceEnd.IsZero():
		return min(pollSilent, x.graceEnd.Sub(x.now()))
	case x.closing:
		return pollSoon
	case !x.begun.Load() && !x.first():
		return pollStaged // the end of the one before it wakes it up
	}
	return pollSilent
}

// check looks at the engine and acts on what it sees; an Outcome is the end.
func (x *execution) check() *Outcome {
	x.looked = x.now()
	where, h, q := x.look()
	if where != placeNowhere {
		x.absent = 0
	}
	if where != placeBroken {
		x.broken = 0
	}
	switch where {
	case placeDone:
		return x.done(h)
	case placeNowhere:
		return x.nowhere()
	case placeBroken:
		return x.unreadable()
	case placeRunning:
		x.stuck = time.Time{}
		x.markStarted(x.now())
		return x.running()
	case placePending:
		return x.pending(q)
	}
	// A process that is frozen neither answers nor speaks.
	if silent := x.awake().Sub(x.heard); x.begun.Load() && x.ending == "" && silent >= x.w.m.cfg.StallAfter {
		x.stalled(silent)
	}
	x.escalate()
	return nil
}

// running acts on a prompt that the engine executes.
func (x *execution) running() *Outcome {
	if x.ending == models.CauseTakenBack {
		x.ending = "" // too late: it runs, so it may finish
	}
	if x.ending != "" {
		x.interrupt()
		return nil
	}
	if x.graceOver() {
		x.end(models.CauseServerStop)
		x.interrupt()
		return nil
	}
	silent := x.awake().Sub(x.heard)
	limit := x.w.m.cfg.StallAfter
	if x.closing {
		limit = min(limit, stuckLimit) // it said that it is done: all that is left is to write its history
	}
	if silent >= limit/2 && !x.asleep {
		x.asleep = true
		x.s.refresh()
	}
	if silent >= limit {
		x.stalled(silent)
	}
	return nil
}

// stalled ends the worker of a prompt that makes no progress. The session's end brings the outcome.
func (x *execution) stalled(silent time.Duration) {
	e := ending{cause: models.CauseStalled, victim: x.task.AttemptID, now: true,
		detail: "no progress for " + silent.Round(time.Second).String() + x.within()}
	// After its last word, or without any, the worker thread is dead although the queue shows the prompt.
	if x.closing || x.raised != nil || x.progress.current == "" {
		e.cause, e.detail = models.CauseZombie, "the queue is stuck: nothing happened for "+silent.Round(time.Second).String()
	}
	if !x.s.local {
		x.interrupt() // all that can be done to somebody else's process
	}
	x.w.fault(x.s, e)
}

func (x *execution) within() string {
	if n := x.progress.now; n.CurrentNode != "" {
		return " in node " + n.CurrentNode + " (" + n.CurrentClass + ")"
	}
	return ""
}

// interrupt asks the engine to stop the prompt, and has the worker restarted when it was asked for too long.
func (x *execution) interrupt() {
	ctx, cancel := x.s.call()
	defer cancel()
	if err := x.s.engine.Interrupt(ctx, x.task.AttemptID); err != nil {
		x.w.log.Warn("interrupt a prompt", "attempt", x.task.AttemptID, "error", err)
	} else {
		x.told()
	}
	x.escalate()
}

// told notes that the engine has heard of the stop: its time to obey begins with the first time.
func (x *execution) told() {
	if x.toldAt.IsZero() {
		x.toldAt = x.awake()
	}
}

// escalate restarts the worker whose prompt does not obey, or that cannot be told. An attached one is left alone for
// longer: losing the connection does not end its prompt.
func (x *execution) escalate() {
	limit := x.w.m.cfg.InterruptLimit
	if !x.s.local {
		limit = x.w.m.cfg.StallAfter
	}
	since := x.endSince
	if !x.toldAt.IsZero() {
		since = x.toldAt
	}
	if x.ending != "" && x.awake().Sub(since) >= limit {
		x.w.fault(x.s, ending{cause: models.CauseStalled, victim: x.task.AttemptID, now: true,
			detail: "ignored interrupts for " + limit.String()})
	}
}

// pending acts on a prompt that waits in the engine's queue.
func (x *execution) pending(q Queue) *Outcome {
	if x.ending == "" {
		if len(q.Running) > 0 || len(q.Pending) == 0 || q.Pending[0].PromptID != x.task.AttemptID {
			x.stuck = time.Time{}
			x.s.blocked(q)
			return nil
		}
		if x.stuck.IsZero() {
			x.stuck = x.awake()
		}
		if x.awake().Sub(x.stuck) >= min(stuckLimit, x.w.m.cfg.StallAfter) {
			x.w.fault(x.s, ending{cause: models.CauseZombie, victim: x.task.AttemptID, now: true,
				detail: "the queue is stuck: the engine runs nothing"})
		}
		return nil
	}
	ctx, cancel := x.s.call()
	defer cancel()
	if err := x.s.engine.Unqueue(ctx, x.task.AttemptID); err != nil {
		x.w.log.Warn("take a prompt back", "attempt", x.task.AttemptID, "error", err)
		x.escalate()
		return nil
	}
	x.told()
	// Deleting says nothing: it may have begun a moment before.
	if where, _, _ := x.look(); where == placeNowhere {
		out := x.outcome(x.now())
		return &out
	}
	x.escalate()
	return nil
}

// end stops the prompt for a cause and reports whether to act at once. A cancel outranks what was asked before; a
// prompt that executes is not taken back.
func (x *execution) end(c models.Cause) bool {
	switch {
	case c == models.CauseTakenBack && (x.begun.Load() || x.ending != ""):
		return false
	case x.ending == "" || x.ending == models.CauseTakenBack || c == models.CauseCanceled:
		if x.ending == "" {
			x.endSince = x.awake()
		}
		x.ending = c
	}
	return true
}

// graceOver says that a stopping server waits no longer.
func (x *execution) graceOver() bool { return !x.graceEnd.IsZero() && !x.now().Before(x.graceEnd) }

// wind lets an executing prompt of a stopping server go on for the grace, and takes a waiting one back.
func (x *execution) wind() {
	if !x.graceEnd.IsZero() || x.ending != "" {
		return
	}
	x.graceEnd = x.now().Add(x.w.m.cfg.ShutdownGrace)
	if !x.begun.Load() {
		x.end(models.CauseTakenBack)
	}
}
