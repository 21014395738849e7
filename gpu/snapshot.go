package gpu

import (
	"comfyfleet/models"
	"reflect"
	"slices"
)

// publish makes the snapshot that everybody else reads.
func (w *worker) publish() {
	s := models.Worker{Name: w.spec.Name, Kind: w.spec.Kind, State: w.state, Reason: w.reason, Since: w.since, URL: w.url,
		EngineVersion: w.info.Version, StartedAt: w.started, Models: slices.Clone(w.resident), RSS: w.rss, JobsDone: w.jobs,
		Restarts: w.restarts, Exits: slices.Clone(w.exits), Card: w.card, VRAMTotal: w.info.VRAMTotal, VRAMFree: w.info.VRAMFree,
		Adopted: w.adopted, EngineSimulated: w.info.Simulated, WantDrain: w.wish.drain, WantDisabled: w.wish.disabled}
	if w.child != nil {
		s.PID = w.child.PID()
	}
	if w.state == models.WorkerBackoff {
		s.NextStartAt = w.retryAt
	}
	if w.state == models.WorkerReady {
		s.IdleSince = w.idle
	}
	for i, x := range w.order() {
		switch i {
		case 0:
			s.Executing, s.ExecutingJobID = x.task.AttemptID, x.task.JobID
		case 1:
			s.Staged, s.StagedJobID = x.task.AttemptID, x.task.JobID
		}
	}
	// Unchanged snapshots wake nobody: every call of the owner ends here.
	if old := w.snap.Load(); old != nil && reflect.DeepEqual(*old, s) {
		return
	}
	w.snap.Store(&s)
	close(w.pulse)
	w.pulse = make(chan struct{})
	w.mark()
	w.m.changed()
}

// order is the runs with the executing one first.
func (w *worker) order() []*execution {
	list := slices.Clone(w.runs)
	slices.SortStableFunc(list, func(a, b *execution) int {
		switch x, y := a.begun.Load(), b.begun.Load(); {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	return list
}

// mark notes in the strip what the worker does now.
func (w *worker) mark() {
	kind := models.SpanIdle
	s := w.snap.Load()
	switch doing := w.doing.Load(); {
	case s.State == models.WorkerStopped || s.State == models.WorkerDisabled:
		kind = models.SpanOff
	case !s.State.Up():
		kind = models.SpanDown
	case doing != nil:
		kind = *doing
	case w.readers.Load() > 0:
		kind = models.SpanCollecting
	}
	w.strip.mark(kind, w.m.cfg.Now())
}
