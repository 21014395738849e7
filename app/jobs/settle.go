package jobs

import (
	"context"
	"errors"
	"time"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

// settle writes down the end of an attempt and what follows from it. unsaved is progress that is not in the store yet: a
// job that waits again keeps it as the floor of its next attempt.
func (s *Service) settle(ctx context.Context, o *observer, out gpu.Outcome, unsaved []models.ProgressUpdate) error {
	job, a := o.job, o.attempt
	v := decide(job, a, out)
	if v.collect {
		f, err := s.collect(ctx, o, out)
		if err == nil {
			o.finishWith(&f)
			err = s.finish(ctx, job, f)
			if errors.Is(err, models.ErrNotDurable) {
				err = s.finishLater(ctx, o, f)
			}
			lost := lostError{}
			if !errors.As(err, &lost) {
				return err
			}
			err = lost
		}
		o.flush(ctx)
		s.Log.Warn("collect outputs", "job", job.ID, "attempt", a.ID, "worker", a.Worker, "error", err)
		out.Cause, out.Detail = models.CauseOutputs, err.Error()
		v = decide(job, a, out)
	}
	switch {
	case v.requeue != nil:
		if _, err := s.Store.SaveProgress(ctx, unsaved); err != nil {
			return err
		}
		v.requeue.At = s.Now()
		requeued, err := s.Store.RequeueAttempt(ctx, *v.requeue)
		if err != nil {
			return err
		}
		s.hub.publishJob(requeued)
		s.Wake()
	case v.finish != nil:
		return s.finish(ctx, job, *v.finish)
	}
	return nil
}

// finishLater commits a final state whose outputs are not on the disk yet. When that takes long it is told meanwhile that
// the job has begun: nothing may expire it as if it were waiting.
func (s *Service) finishLater(ctx context.Context, o *observer, f models.Finish) error {
	began := s.Now()
	err := patiently(ctx, startAfter, f.Durable, func() {
		o.flush(ctx)
		f.StartedAt = nil
	})
	if err != nil {
		s.deleteBlobs(ctx, f.Outputs)
		return err
	}
	f.Durable = nil
	f.CollectMS += s.Now().Sub(began).Milliseconds()
	return s.finish(ctx, o.job, f)
}

// patiently waits for something, and calls slow once when that takes longer than limit.
func patiently(ctx context.Context, limit time.Duration, wait func(context.Context) error, slow func()) error {
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := wait(short)
	if err == nil || !errors.Is(err, short.Err()) {
		return err
	}
	slow()
	return wait(ctx)
}

// finish commits a final state. The blobs of outputs that nobody will own are deleted.
func (s *Service) finish(ctx context.Context, job models.Job, f models.Finish) error {
	f.At = s.Now()
	if f.Progress.LastEventAt == nil {
		f.Progress = s.lastProgress(job)
	}
	done, err := s.Store.FinishAttempt(ctx, f)
	if errors.Is(err, models.ErrNotDurable) {
		return err // nothing is lost
	}
	if err != nil {
		s.deleteBlobs(ctx, f.Outputs)
		return err
	}
	if done.State == models.JobSucceeded {
		s.estimator.add(done.WorkflowSlug, f.LoadMS+f.ExecMS+f.CollectMS)
	}
	s.ended(done, f.Outputs)
	return nil
}

// lastProgress is the newest that is known of a job that ends.
func (s *Service) lastProgress(job models.Job) models.Progress {
	if u, ok := s.hub.latest(job.ID); ok && u.Progress.Percent >= job.Progress.Percent {
		return u.Progress
	}
	return job.Progress
}

func (s *Service) deleteBlobs(ctx context.Context, outputs []models.Output) {
	var ids []string
	for _, o := range outputs {
		if o.Content == nil {
			ids = append(ids, o.ID)
		}
	}
	if err := s.Blobs.Delete(ctx, ids...); err != nil {
		s.Log.Warn("delete files that belong to no job", "error", err)
	}
}
