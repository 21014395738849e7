package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// Attempts reads a job's attempts, oldest first.
func (s *Store) Attempts(ctx context.Context, jobID string) ([]models.Attempt, error) {
	attempts := []models.Attempt{}
	err := s.read(ctx).Where("job_id = ?", jobID).Order("number").Find(&attempts).Error
	return attempts, translate(err, "read attempts", "attempt")
}

// Attempt reads one attempt.
func (s *Store) Attempt(ctx context.Context, id string) (models.Attempt, error) {
	return take[models.Attempt](s.read(ctx).Where("id = ?", id), "attempt")
}

// OpenAttempts reads every attempt that has not ended, oldest first, with its job. A starting server goes on with them.
func (s *Store) OpenAttempts(ctx context.Context) ([]models.OpenAttempt, error) {
	open := []models.OpenAttempt{}
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		var attempts []models.Attempt
		if err := tx.Raw(`SELECT a.* FROM jobs j JOIN attempts a ON a.id = j.attempt_id
			WHERE j.state IN ('queued', 'running') AND j.attempt_id <> ''`).Scan(&attempts).Error; err != nil {
			return err
		}
		slices.SortFunc(attempts, func(a, b models.Attempt) int {
			return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
		})
		for _, a := range attempts { // at most two per worker
			job, err := jobByID(tx, "", a.JobID)
			if err != nil {
				return err
			}
			open = append(open, models.OpenAttempt{Attempt: a, Job: job})
		}
		return nil
	})
	return open, translate(err, "read open attempts", "attempt")
}

// AttemptStaged stores that the engine has the prompt in its queue. Said again, or later than AttemptStarted, it
// changes nothing. models.ErrFenced when the attempt is not its job's any more.
func (s *Store) AttemptStaged(ctx context.Context, attemptID string, at time.Time) error {
	at = stamp(at)
	return s.stepAttempt(ctx, "store that a prompt is staged", attemptID,
		func(a *models.Attempt, job *models.Job) (models.Event, bool) {
			if a.State != models.AttemptStaging {
				return models.Event{}, false
			}
			a.State, a.StagedAt = models.AttemptStaged, &at
			job.Phase = models.PhaseStaged
			return models.Event{At: at, Kind: models.EventStaged, Message: "waits in the engine of " + a.Worker}, true
		})
}

// AttemptStarted stores that the engine was seen executing the prompt at that time: the job runs and the attempt
// counts. Said again it changes nothing. models.ErrFenced when the attempt is not its job's any more.
func (s *Store) AttemptStarted(ctx context.Context, attemptID string, at time.Time, simulated bool) error {
	at = stamp(at)
	return s.stepAttempt(ctx, "store that a prompt started", attemptID,
		func(a *models.Attempt, job *models.Job) (models.Event, bool) {
			if a.StartedAt != nil {
				return models.Event{}, false
			}
			return execute(a, job, at, simulated), true
		})
}

// execute makes an attempt the one that executes, and its job running.
func execute(a *models.Attempt, job *models.Job, at time.Time, simulated bool) models.Event {
	start(a, job, at)
	a.State = models.AttemptExecuting
	job.State, job.Phase = models.JobRunning, models.PhaseExecuting
	job.Simulated = simulated
	return models.Event{At: at, Kind: models.EventStarted, AttemptID: a.ID, Worker: a.Worker,
		Message: fmt.Sprintf("attempt %d runs on %s", a.Number, a.Worker)}
}

// AttemptCollecting stores that the engine is done after loadMS and execMS and that the outputs are being collected.
// Said again it changes nothing. models.ErrFenced when the attempt is not its job's any more.
func (s *Store) AttemptCollecting(ctx context.Context, attemptID string, at time.Time, loadMS, execMS int64) error {
	at = stamp(at)
	return s.stepAttempt(ctx, "store that outputs are collected", attemptID,
		func(a *models.Attempt, job *models.Job) (models.Event, bool) {
			if a.State == models.AttemptCollecting {
				return models.Event{}, false
			}
			if a.StartedAt == nil {
				start(a, job, at.Add(-time.Duration(loadMS+execMS)*time.Millisecond))
			}
			a.State, a.LoadMS, a.ExecMS = models.AttemptCollecting, loadMS, execMS
			job.State, job.Phase = models.JobRunning, models.PhaseCollecting
			return models.Event{At: at, Kind: models.EventCollecting, Message: "outputs are being stored"}, true
		})
}

// start counts an attempt that began to execute.
func start(a *models.Attempt, job *models.Job, at time.Time) {
	a.StartedAt = &at
	job.Attempts++
	if job.StartedAt == nil {
		job.StartedAt = &at
		job.Metrics.QueueMS = since(job.CreatedAt, at)
	}
}

// stepAttempt moves an open attempt and its job one step on. change says what that is, or that there is none.
func (s *Store) stepAttempt(ctx context.Context, what, attemptID string,
	change func(a *models.Attempt, job *models.Job) (models.Event, bool)) error {
	return s.write(ctx, what, "attempt", func(tx *gorm.DB) error {
		a, before, err := ownAttempt(tx, attemptID)
		if err != nil {
			return err
		}
		job := before
		ev, changed := change(&a, &job)
		if !changed {
			return nil
		}
		if err := attemptsTable.save(tx, &a); err != nil {
			return err
		}
		ev.AttemptID, ev.Worker = a.ID, a.Worker
		taken := step(&job, ev)
		return s.record(tx, before, job, taken)
	})
}

// Fence answers models.ErrFenced when the attempt is not its job's any more, and CodeNotFound when there is no such job.
func (s *Store) Fence(ctx context.Context, jobID, attemptID string) error {
	var owner string
	var state models.JobState
	err := s.read(ctx).Raw(`SELECT attempt_id, state FROM jobs WHERE id = ?`, jobID).Row().Scan(&owner, &state)
	if err != nil {
		return translate(err, "read job", "job")
	}
	if owner != attemptID || state.Final() {
		return models.ErrFenced
	}
	return nil
}

// ownAttempt reads an attempt that still owns its job, and locks the job; models.ErrFenced when it does not.
func ownAttempt(tx *gorm.DB, attemptID string) (a models.Attempt, job models.Job, err error) {
	if a, err = attemptsTable.take(tx, "id = ?", attemptID); err != nil {
		return a, job, err
	}
	if job, err = lockJob(tx, "", a.JobID); err != nil {
		return a, job, err
	}
	if job.AttemptID != a.ID || job.State.Final() || !a.State.Open() {
		return a, job, models.ErrFenced
	}
	return a, job, nil
}
