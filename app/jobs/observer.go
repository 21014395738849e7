package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"comfyfleet/models"
)

// noteAfter is how long a step must last before it is worth a commit of its own. A prompt that an idle engine takes at
// once is never seen waiting there, and outputs that are stored at once are never seen being collected; each such
// commit would only stand in the way of the next.
const noteAfter = 100 * time.Millisecond

// observer writes down what happens to one attempt. Its commits run beside the prompt, not before it: what must be
// committed first is the claim, and nothing is decided by the others but the final one, which waits for them.
type observer struct {
	s       *Service
	job     models.Job
	attempt models.Attempt

	writes sync.WaitGroup
	staged *time.Timer // set by Staged, from the goroutine that calls Started too
}

// Staged notes that the engine has the prompt in its queue, unless it starts at once.
func (o *observer) Staged(ctx context.Context) error {
	at := o.s.Now()
	o.staged = o.later(ctx, func(ctx context.Context) error { return o.s.Store.AttemptStaged(ctx, o.attempt.ID, at) })
	return nil
}

// Started notes that the engine executes the prompt.
func (o *observer) Started(ctx context.Context, at time.Time) error {
	if o.staged != nil {
		o.cancel(o.staged)
	}
	o.s.hub.publish(o.job.ID, func(u *Update) {
		if !u.State.Final() {
			u.State, u.Phase = models.JobRunning, models.PhaseExecuting
		}
	})
	o.writes.Add(1)
	go func() {
		defer o.writes.Done()
		w, _ := o.s.Fleet.Worker(o.attempt.Worker)
		o.commit(ctx, func(ctx context.Context) error {
			return o.s.Store.AttemptStarted(ctx, o.attempt.ID, at, w.Simulated())
		})
	}()
	return nil
}

// later commits a step that still lasts after noteAfter.
func (o *observer) later(ctx context.Context, write func(context.Context) error) *time.Timer {
	o.writes.Add(1)
	return time.AfterFunc(noteAfter, func() {
		defer o.writes.Done()
		o.commit(ctx, write)
	})
}

// cancel takes a later commit back; it may be under way already.
func (o *observer) cancel(t *time.Timer) {
	if t.Stop() {
		o.writes.Done()
	}
}

// wait ends when every commit of the attempt is done or taken back. Nothing is noted after it.
func (o *observer) wait() {
	if o.staged != nil {
		o.cancel(o.staged)
		o.staged = nil
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

func (o *observer) Preview(image []byte, contentType, node string) {
	o.s.hub.publish(o.job.ID, func(u *Update) {
		u.Preview, u.PreviewType, u.PreviewNode = image, contentType, node
		u.PreviewVersion++
	})
}
