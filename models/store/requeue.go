package store

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// RequeueAttempt ends an attempt and lets its job wait again, at its old place: it keeps seq and priority.
// models.ErrFenced, and nothing written, when the attempt is not its job's any more.
func (s *Store) RequeueAttempt(ctx context.Context, r models.Requeue) (models.Job, error) {
	if r.Attempt != models.AttemptLost && r.Attempt != models.AttemptReleased {
		return models.Job{}, fmt.Errorf("requeue attempt %s: %q is neither lost nor released", r.AttemptID, r.Attempt)
	}
	r.At = stamp(r.At)
	var job models.Job
	err := s.write(ctx, "requeue attempt", "attempt", func(tx *gorm.DB) error {
		a, before, err := ownAttempt(tx, r.AttemptID)
		if err != nil {
			return err
		}
		job = before
		a.State, a.EndedAt = r.Attempt, &r.At
		a.Cause, a.Detail, a.LogTail = r.Cause, r.Detail, r.LogTail
		a.LoadMS, a.ExecMS = r.LoadMS, r.ExecMS
		if r.PID != 0 {
			a.PID = r.PID
		}
		if err := attemptsTable.save(tx, &a); err != nil {
			return err
		}
		giveBack(&job, a, r)
		kind := models.EventRequeued
		if r.Cause == models.CauseTakenBack {
			kind = models.EventTakenBack
		}
		requeued := step(&job, models.Event{At: r.At, Kind: kind, AttemptID: a.ID, Worker: a.Worker, Message: r.Detail})
		return s.record(tx, before, job, requeued)
	})
	if err != nil {
		return models.Job{}, err
	}
	return job, nil
}

// giveBack makes a job wait again after its attempt a. Percent stays: it never falls.
func giveBack(job *models.Job, a models.Attempt, r models.Requeue) {
	job.State, job.Phase, job.AttemptID = models.JobQueued, models.PhaseWaiting, ""
	p := &job.Progress
	p.Value, p.Max, p.CurrentNode, p.CurrentClass = 0, 0, "", ""
	if r.Fault {
		job.Faults++
	}
	if r.OOM {
		job.OOMs++
	}
	switch {
	case a.StartedAt == nil:
	case r.Uncount:
		job.Attempts--
	default:
		charge(job, r.LoadMS, r.ExecMS)
	}
}
