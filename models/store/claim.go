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
	if a.CreatedAt.IsZero() {
		a.CreatedAt = s.now()
	}
	a.CreatedAt = stamp(a.CreatedAt)
	a.State = models.AttemptStaging
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
		attempt, job = a, before
		attempt.TenantID = job.TenantID
		if err := tx.Raw(`SELECT COALESCE(MAX(number), 0) + 1 FROM attempts WHERE job_id = ?`, job.ID).
			Scan(&attempt.Number).Error; err != nil {
			return err
		}
		if err := tx.Create(&attempt).Error; err != nil {
			return err
		}
		job.Phase = models.PhaseStaging
		job.AttemptID, job.PromptID, job.Worker = attempt.ID, attempt.ID, attempt.Worker
		job.WaitingReason = ""
		return s.record(tx, before, &job, models.Event{At: attempt.CreatedAt, Kind: models.EventClaimed,
			AttemptID: attempt.ID, Worker: attempt.Worker, Message: attempt.PlacedBecause})
	})
	if err != nil {
		return models.Attempt{}, models.Job{}, err
	}
	return attempt, job, nil
}
