package store

import (
	"context"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// Claim gives a waiting job to a worker: it inserts the attempt a (ID, JobID, Worker, PlacedBecause, PID and CreatedAt
// count; Number, TenantID and State are filled) and moves the job to phase staging. When the job is not waiting any
// more it is models.ErrFenced and nothing changes: of any number of claimers one wins.
func (s *Store) Claim(ctx context.Context, a models.Attempt) (models.Attempt, models.Job, error) {
	var attempt models.Attempt
	var job models.Job
	err := s.write(ctx, "claim job", "job", func(tx *gorm.DB) error {
		before, err := lockJob(tx, "", a.JobID)
		if err != nil {
			return err
		}
		if before.State != models.JobQueued || before.Phase != models.PhaseWaiting {
			return models.ErrFenced
		}
		var number int
		if err := tx.Raw(`SELECT COALESCE(MAX(number), 0) + 1 FROM attempts WHERE job_id = ?`, a.JobID).
			Scan(&number).Error; err != nil {
			return err
		}
		attempt, job = s.newAttempt(a, before, number), before
		if err := attemptsTable.insert(tx, attempt); err != nil {
			return err
		}
		claimed := claim(&job, attempt)
		return s.record(tx, before, job, claimed)
	})
	if err != nil {
		return models.Attempt{}, models.Job{}, err
	}
	return attempt, job, nil
}

// newAttempt fills what every attempt has when it begins.
func (s *Store) newAttempt(a models.Attempt, job models.Job, number int) models.Attempt {
	if a.CreatedAt.IsZero() {
		a.CreatedAt = s.now()
	}
	a.CreatedAt = stamp(a.CreatedAt)
	a.JobID, a.TenantID = job.ID, job.TenantID
	a.Number, a.State = number, models.AttemptStaging
	return a
}

// claim makes a waiting job the attempt's.
func claim(job *models.Job, a models.Attempt) eventRow {
	job.Phase = models.PhaseStaging
	job.AttemptID, job.PromptID, job.Worker = a.ID, a.ID, a.Worker
	job.WaitingReason = ""
	return step(job, models.Event{At: a.CreatedAt, Kind: models.EventClaimed, AttemptID: a.ID, Worker: a.Worker,
		Message: a.PlacedBecause})
}
