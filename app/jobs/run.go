package jobs

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"comfyfleet/models"
)

const (
	expireEvery = time.Second
	expireBatch = 100
	sweepEvery  = 10 * time.Minute
	sweepBatch  = 100
	// orphanEvery is how often files without a job are looked for, and orphanAge how old they must be: a request that is
	// being received has stored its files and not its job, and an upload in the dashboard waits for its form.
	orphanEvery = time.Hour
	orphanAge   = 24 * time.Hour
)

// Run recovers what an earlier server left, then dispatches until ctx ends, and returns when the last attempt has
// written down its end. The fleet must run beside it and end after it was told to.
func (s *Service) Run(ctx context.Context) error {
	for _, start := range []func(context.Context) error{s.loadPauses, s.measureHistory, s.recover} {
		if err := start(ctx); err != nil {
			if ctx.Err() == nil {
				return err
			}
			s.running.Wait() // stopped while it started
			return nil
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	s.life = ctx
	group.Go(func() error { return s.dispatch(ctx) })
	group.Go(func() error { return s.saver.run(ctx, s.Log) })
	group.Go(func() error { return s.every(ctx, expireEvery, s.expire) })
	group.Go(func() error { return s.every(ctx, orphanEvery, s.sweepOrphans) })
	if s.Retention > 0 {
		group.Go(func() error { return s.every(ctx, sweepEvery, s.sweep) })
	}
	err := group.Wait()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.running.Wait()
	return err
}

// every calls do now and then until ctx ends.
func (s *Service) every(ctx context.Context, interval time.Duration, do func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("housekeeping", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// recover goes on with the attempts that were open when the server before this one ended.
func (s *Service) recover(ctx context.Context) error {
	open, err := s.Store.OpenAttempts(ctx)
	if err != nil {
		return err
	}
	for _, o := range open {
		if _, known := s.Fleet.Worker(o.Attempt.Worker); !known {
			if err := s.orphan(ctx, o); err != nil {
				return err
			}
			continue
		}
		j := o.Job
		s.hold(o.Attempt, models.QueuedJob{ID: j.ID, TenantID: j.TenantID, Priority: j.Priority, Seq: j.Seq, At: j.CreatedAt, WorkflowSlug: j.WorkflowSlug})
		go func() {
			defer s.running.Done()
			s.follow(ctx, o.Job, o.Attempt, s.source(ctx, o.Job.ID), nil, true)
		}()
	}
	if len(open) > 0 {
		s.Log.Info("attempts of an earlier server are looked up", "attempts", len(open))
	}
	return nil
}

// orphan puts a job back whose worker is no longer configured.
func (s *Service) orphan(ctx context.Context, o models.OpenAttempt) error {
	_, err := s.Store.RequeueAttempt(ctx, models.Requeue{
		AttemptID: o.Attempt.ID, Attempt: models.AttemptReleased, At: s.Now(), Cause: models.CauseServerStop,
		Detail: "worker " + o.Attempt.Worker + " is not configured any more", Uncount: o.Attempt.StartedAt != nil,
	})
	return err
}

// expire ends waiting jobs whose deadline has passed.
func (s *Service) expire(ctx context.Context) error {
	for {
		expired, err := s.Store.ExpireJobs(ctx, s.Now(), expireBatch)
		if err != nil {
			return err
		}
		for _, job := range expired {
			s.revoke(job)
			s.ended(job, nil)
		}
		if len(expired) < expireBatch {
			return nil
		}
	}
}

// sweep deletes jobs that ended before the retention, their files last: a file without a row is found again.
func (s *Service) sweep(ctx context.Context) error {
	for {
		assets, jobs, err := s.Store.SweepJobs(ctx, s.Now().Add(-s.Retention), sweepBatch)
		if err != nil {
			return err
		}
		if err := s.Blobs.Delete(ctx, assets...); err != nil {
			return err
		}
		if jobs < sweepBatch {
			return nil
		}
	}
}

// sweepOrphans deletes files that no job knows: those of requests that a crash cut off, and of sweeps.
func (s *Service) sweepOrphans(ctx context.Context) error {
	return s.Blobs.IDs(ctx, s.Now().Add(-orphanAge), func(id string) error {
		_, err := s.Store.Asset(ctx, id)
		if models.ErrorCode(err) != models.CodeNotFound {
			return err
		}
		s.Log.Info("delete a file that belongs to no job", "blob", id)
		return s.Blobs.Delete(ctx, id)
	})
}
