package gpu

import (
	"strings"
	"time"

	"comfyfleet/models"
)

// done is the outcome of a prompt whose history is there.
func (x *execution) done(h *History) *Outcome {
	end := x.times(h)
	if x.ending == models.CauseTakenBack {
		x.ending = ""
	}
	if h.Success {
		x.progress.apply(Event{Kind: EventSuccess, At: end})
		x.obs.Progress(x.progress.now, x.progress.phase)
	}
	out := x.outcome(end)
	out.Outputs = h.Outputs
	if x.ending == "" {
		x.judge(h, &out)
	}
	if out.Cause != models.CausePoisoned {
		x.w.finished(x.s, x.task.ModelFiles)
	}
	if out.Cause != "" {
		out.LogTail = x.tail()
	}
	return &out
}

// times notes when the prompt ran, and answers its end. The engine's own clock is exact about how long it took; ours
// says when, but for a prompt that began under an earlier server.
func (x *execution) times(h *History) (end time.Time) {
	end = x.now()
	took := h.EndedAt.Sub(h.StartedAt)
	known := !h.StartedAt.IsZero() && took >= 0
	switch {
	case x.startAt.IsZero() && known && h.StartedAt.After(x.sentAt) && h.StartedAt.Before(end):
		x.markStarted(h.StartedAt)
	case x.startAt.IsZero():
		x.markStarted(x.sentAt)
	}
	switch {
	case known && x.task.Resume && h.EndedAt.Before(end):
		x.startAt, x.progress.started = h.StartedAt, h.StartedAt
		return h.EndedAt
	case known && x.startAt.Add(took).Before(end):
		return x.startAt.Add(took)
	}
	return end
}

// judge says what the history means.
func (x *execution) judge(h *History, out *Outcome) {
	switch e := h.Exception; {
	case h.Success:
	case e != nil:
		x.exception(e, out)
	case h.Interrupted:
		out.Cause, out.Detail = models.CauseVanished, "interrupted on the worker by somebody else"
	case x.raised != nil:
		x.exception(x.raised, out)
	default:
		out.Cause, out.Detail = models.CauseException, "the engine reports a failure without a reason"
	}
}

func (x *execution) exception(e *Exception, out *Outcome) {
	out.Exception = e
	out.Cause = classify(e)
	out.Detail = strings.TrimSpace("node " + e.NodeID + " (" + e.NodeType + "): " + e.Type + ": " + firstLine(e.Message))
	switch out.Cause {
	case models.CauseOOM:
		if x.s.local {
			if err := x.s.free(true); err != nil {
				x.w.log.Warn("free memory after a prompt ran out of it", "error", err)
			}
		}
	case models.CausePoisoned:
		x.w.fault(x.s, ending{cause: models.CausePoisoned, victim: x.task.AttemptID, detail: "a CUDA error: " + firstLine(e.Message)})
	}
}

// classify tells a node's own fault from the card's. A CUDA error other than out of memory stays in the process:
// every later prompt would fail too (protocol §2).
func classify(e *Exception) models.Cause {
	text := strings.ToLower(e.Message)
	switch {
	case strings.Contains(e.Type, "OutOfMemoryError"), strings.Contains(text, "out of memory"):
		return models.CauseOOM
	case strings.Contains(e.Message, "CUDA error"):
		return models.CausePoisoned
	}
	return models.CauseException
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// nowhere is what follows when neither queue nor history know the prompt; two looks in a row make it certain.
func (x *execution) nowhere() *Outcome {
	x.absent++
	if x.absent < 2 {
		return nil
	}
	out := x.outcome(x.now())
	if x.ending == "" {
		out.Cause, out.Detail = models.CauseVanished, "the engine no longer knows the prompt"
		out.LogTail = x.tail()
	}
	return &out
}

// unreadable is what follows when the prompt has ended and its history cannot be read, which is for ever when a node
// returned what JSON cannot hold.
func (x *execution) unreadable() *Outcome {
	x.broken++
	if x.broken < 4 {
		return nil
	}
	x.markStarted(x.sentAt)
	out := x.outcome(x.now())
	if x.ending == "" {
		out.Cause, out.Detail = models.CauseOutputs, "the engine cannot show the prompt's history"
		if x.raised != nil {
			x.exception(x.raised, &out)
		}
		out.LogTail = x.tail()
	}
	return &out
}

// lost is the outcome of a prompt whose session ended under it.
func (x *execution) lost() Outcome {
	e := x.s.ending
	if e.detached {
		return Outcome{Detached: true}
	}
	x.read() // what the engine still said
	hit := e.victim == "" || e.victim == x.task.AttemptID
	unseen := e.cause == models.CauseCrashed || e.cause == models.CauseUnreachable
	if hit && unseen && x.startAt.IsZero() && x.s.head == x {
		x.markStarted(x.sentAt) // it was the only one that could execute
	}
	out := x.outcome(x.now())
	out.LogTail = x.tail()
	switch {
	case x.ending != "":
	case e.cause == models.CauseServerStop:
		out.Cause, out.Detail = e.cause, e.detail
	case hit && out.Started && e.cause != "":
		out.Cause, out.Detail = e.cause, e.detail
	default:
		out.Cause, out.Detail = models.CauseTakenBack, x.w.spec.Name+": "+e.detail
	}
	return out
}

// first reports whether no other prompt of ours is before this one on the engine.
func (x *execution) first() bool {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	return x.s.firstLocked() == x
}
