package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

// noteAfter is how long a step must last before it is worth a commit of its own. A prompt that an idle engine takes at
// once is never seen waiting there, and outputs that are stored at once are never seen being collected; each such
// commit would only stand in the way of the next.
const (
	noteAfter = 100 * time.Millisecond
	// startAfter is the same for the start of a prompt, which followers hear of at once all the same. A shorter prompt's
	// start is stored with its end; when the server is killed in between, the next one finds the prompt on its engine.
	startAfter = 20 * time.Millisecond
)

// observer writes down what happens to one attempt. Its commits run beside the prompt, not before it: what must be
// committed first is the claim, and nothing is decided by the others but the final one, which waits for them.
type observer struct {
	s       *Service
	job     models.Job
	attempt models.Attempt
	early   *earlyOutputs

	writes sync.WaitGroup
	// staged and started are set from the one goroutine that calls Staged and Started.
	staged, started *note
	withEnd         bool // the start is written down with the end
	startedAt       time.Time
	simulated       bool
}

// note is a commit that is made when its step lasts.
type note struct {
	timer *time.Timer
	write func(context.Context) error
}

// Staged notes that the engine has the prompt in its queue, unless it starts at once.
func (o *observer) Staged(ctx context.Context) error {
	at := o.s.Now()
	o.staged = o.later(ctx, noteAfter, func(ctx context.Context) error { return o.s.Store.AttemptStaged(ctx, o.attempt.ID, at) })
	return nil
}

// Started notes that the engine executes the prompt.
func (o *observer) Started(ctx context.Context, at time.Time) error {
	o.cancel(o.staged)
	o.s.hub.publish(o.job.ID, func(u *Update) {
		if !u.State.Final() {
			u.State, u.Phase = models.JobRunning, models.PhaseExecuting
		}
	})
	w, _ := o.s.Fleet.Worker(o.attempt.Worker)
	o.startedAt, o.simulated = at, w.Simulated()
	o.started = o.later(ctx, startAfter, func(ctx context.Context) error {
		return o.s.Store.AttemptStarted(ctx, o.attempt.ID, at, w.Simulated())
	})
	return nil
}

// later commits a step that still lasts after a while.
func (o *observer) later(ctx context.Context, after time.Duration, write func(context.Context) error) *note {
	n := &note{write: write}
	o.writes.Add(1)
	n.timer = time.AfterFunc(after, func() {
		defer o.writes.Done()
		o.commit(ctx, write)
	})
	return n
}

// cancel takes a note back, nil for none. It answers whether the note will not be written; else it is, or is being.
func (o *observer) cancel(n *note) bool {
	if n == nil || !n.timer.Stop() {
		return false
	}
	o.writes.Done()
	return true
}

// finishWith writes down a start that was not noted as a part of the end f, and waits for the notes under way. Nothing is
// noted after it.
func (o *observer) finishWith(f *models.Finish) {
	o.cancel(o.staged)
	if o.cancel(o.started) {
		o.withEnd = true
		f.StartedAt, f.Simulated = &o.startedAt, o.simulated
	}
	o.writes.Wait()
}

// flush notes the start at once, also one that was to be written down with an end that failed, and waits until every note
// is written or taken back. Nothing is noted after it.
func (o *observer) flush(ctx context.Context) {
	o.cancel(o.staged)
	if o.cancel(o.started) || o.withEnd {
		o.withEnd = false
		o.commit(ctx, o.started.write)
	}
	o.writes.Wait()
}

// commit writes one step and tells the followers. An attempt that no longer owns its job is stopped on its worker.
func (o *observer) commit(ctx context.Context, write func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	err := write(ctx)
	if err == nil {
		var job models.Job
		if job, err = o.s.Store.Job(ctx, "", o.job.ID); err == nil {
			o.s.hub.publishJob(job)
			return
		}
	}
	if errors.Is(err, models.ErrFenced) {
		o.s.Fleet.Stop(o.attempt.ID, models.CauseCanceled)
		return
	}
	o.s.Log.Error("note a step", "job", o.job.ID, "attempt", o.attempt.ID, "error", err)
}

func (o *observer) Progress(p models.Progress, phase models.Phase) {
	o.s.hub.progress(o.job.ID, p, phase)
	o.s.saver.note(models.ProgressUpdate{JobID: o.job.ID, AttemptID: o.attempt.ID, Phase: phase, Progress: p})
}

// Made begins to store outputs while their prompt goes on.
func (o *observer) Made(outputs []gpu.NodeOutput) { o.early.begin(outputs) }

func (o *observer) Preview(image []byte, contentType, node string) {
	o.s.hub.publish(o.job.ID, func(u *Update) {
		u.Preview, u.PreviewType, u.PreviewNode = image, contentType, node
		u.PreviewVersion++
	})
}
