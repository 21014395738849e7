package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// canceledByUser is the error that the API's clients know.
const canceledByUser = "Cancelled by user"

// expirePerTx bounds how long one expiry keeps other writes waiting.
const expirePerTx = 100

// CancelJob ends a job and its open attempt as canceled; whatever the attempt brings later is fenced. message is the
// job's error, "Cancelled by user" when empty. changed is false, and the job as it is, when it had ended before. The
// attempt to stop is the job's PromptID on its Worker. An empty tenantID is an operator.
func (s *Store) CancelJob(ctx context.Context, tenantID, jobID string, at time.Time, message string) (job models.Job, changed bool, err error) {
	if message == "" {
		message = canceledByUser
	}
	err = s.write(ctx, "cancel job", "job", func(tx *gorm.DB) error {
		before, err := lockJob(tx, tenantID, jobID)
		if err != nil {
			return err
		}
		job, changed = before, !before.State.Final()
		if !changed {
			return nil
		}
		return s.breakOff(tx, before, &job, cut{state: models.JobCanceled, cause: models.CauseCanceled,
			at: stamp(at), message: message})
	})
	if err != nil {
		return models.Job{}, false, err
	}
	return job, changed, nil
}

// ExpireJobs ends at most limit queued jobs, waiting or staged, whose deadline has passed by now, and returns them.
func (s *Store) ExpireJobs(ctx context.Context, now time.Time, limit int) ([]models.Job, error) {
	var all []models.Job
	for limit > 0 {
		n := min(limit, expirePerTx)
		expired, err := s.expire(ctx, stamp(now), n)
		all = append(all, expired...)
		if err != nil || len(expired) < n {
			return all, err
		}
		limit -= n
	}
	return all, nil
}

func (s *Store) expire(ctx context.Context, now time.Time, limit int) ([]models.Job, error) {
	due := s.read(ctx).Table("jobs").
		Where("state = 'queued' AND phase IN ('waiting', 'staged') AND deadline_at <= ?", now)
	var ids []string // looked for outside the writer, which most of the time has nothing to do then
	if err := due.Order("deadline_at").Limit(limit).Pluck("id", &ids).Error; err != nil {
		return nil, translate(err, "look for expired jobs", "job")
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var expired []models.Job
	err := s.write(ctx, "expire jobs", "job", func(tx *gorm.DB) error {
		expired = make([]models.Job, 0, len(ids))
		for _, id := range ids {
			before, err := lockJob(tx, "", id)
			if err != nil {
				return err
			}
			if before.State != models.JobQueued || before.Phase == models.PhaseStaging {
				continue // moved since
			}
			job := before
			if err := s.breakOff(tx, before, &job, cut{state: models.JobExpired, cause: models.CauseDeadline,
				at: now, message: "the deadline passed before the job started"}); err != nil {
				return err
			}
			expired = append(expired, job)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return expired, nil
}

// cut is an end from outside, not by the attempt.
type cut struct {
	state   models.JobState
	cause   models.Cause
	at      time.Time
	message string
}

// breakOff ends a job and its open attempt, if it has one. Card time used so far is charged.
func (s *Store) breakOff(tx *gorm.DB, before models.Job, job *models.Job, c cut) error {
	job.ErrorCode, job.Error = string(c.cause), c.message
	var a models.Attempt
	if before.AttemptID != "" {
		if err := tx.Where("id = ?", before.AttemptID).Take(&a).Error; err != nil {
			return err
		}
		if a.StartedAt != nil && a.State != models.AttemptCollecting {
			a.ExecMS = since(*a.StartedAt, c.at)
		}
		a.State, a.EndedAt, a.Cause, a.Detail = models.AttemptCanceled, &c.at, c.cause, c.message
		if err := attemptsTable.save(tx, &a); err != nil {
			return err
		}
		if a.StartedAt != nil {
			charge(job, a.LoadMS, a.ExecMS)
		}
	}
	return s.finish(tx, before, job, ending{state: c.state, at: c.at, attempt: a, message: c.message})
}
