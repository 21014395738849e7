package store

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// purgePerAccept is how many expired idempotency keys an acceptance that brings a new one throws away: more than one,
// so that they cannot pile up.
const purgePerAccept = 4

// idempotencyRow remembers the request that made a job.
type idempotencyRow struct {
	TenantID    string `gorm:"primaryKey"`
	Key         string `gorm:"primaryKey"`
	Fingerprint string
	JobID       string
	Until       time.Time
}

func (idempotencyRow) TableName() string { return "idempotency_keys" }

// AcceptJob stores a request: the job (queued; waiting, or staging with its first attempt), its payload, assets and
// media, its idempotency key and its first events. Replayed is true when the same request was accepted before under its
// key; the answer is then that job as it stands. Errors: CodeUnprocessed "idempotency_mismatch" for another request
// under a known key, CodeLimited "queue_full" at a cap, CodeUnprocessed "media_gone" when a medium that an earlier job
// brought has been deleted meanwhile.
func (s *Store) AcceptJob(ctx context.Context, n models.NewJob) (job models.Job, replayed bool, err error) {
	fresh := s.newJob(n.Job)
	payload := payloadRow{Graph: s.pack(n.Payload.Graph), Inputs: s.pack(n.Payload.Inputs),
		ExtraPNGInfo: s.pack(n.Payload.ExtraPNGInfo)}
	err = s.write(ctx, "accept job", "job", func(tx *gorm.DB) error {
		job, replayed = fresh, false
		if n.Idempotency != nil {
			var err error
			if job, replayed, err = replay(tx, fresh, *n.Idempotency); err != nil || replayed {
				return err
			}
		}
		if err := checkCaps(tx, fresh.TenantID, n.MaxQueued, n.MaxQueuedTenant); err != nil {
			return err
		}
		job = fresh
		steps := []eventRow{step(&job, models.Event{At: job.CreatedAt, Kind: models.EventAccepted, Message: "accepted"})}
		var first []models.Attempt
		if n.Attempt != nil {
			a := s.newAttempt(*n.Attempt, job, 1)
			first, steps = []models.Attempt{a}, append(steps, claim(&job, a))
		}
		if err := jobsTable.insertNumbered(tx, &job); err != nil {
			return err
		}
		row := payload
		row.JobSeq = job.Seq
		if err := payloadsTable.insert(tx, row); err != nil {
			return err
		}
		if err := addMedia(tx, job, n); err != nil {
			return err
		}
		if err := moveLoad(tx, models.Job{}, job); err != nil {
			return err
		}
		if err := remember(tx, job, n.Idempotency); err != nil {
			return err
		}
		if err := attemptsTable.insert(tx, first...); err != nil {
			return err
		}
		return addEvents(tx, job, steps)
	})
	if err != nil {
		return models.Job{}, false, err
	}
	return job, replayed, nil
}

// LookupIdempotency reads what was accepted under a key that has not expired: CodeNotFound when there is none.
func (s *Store) LookupIdempotency(ctx context.Context, tenantID, key string) (fingerprint string, job models.Job, err error) {
	var row idempotencyRow
	err = s.readTogether(ctx, func(tx *gorm.DB) (err error) {
		if row, err = liveKey(tx, tenantID, key, s.now()); err != nil {
			return err
		}
		job, err = jobByID(tx, tenantID, row.JobID)
		return err
	})
	return row.Fingerprint, job, translate(err, "look up idempotency key", "idempotency key")
}

// newJob fills what every accepted job has.
func (s *Store) newJob(job models.Job) models.Job {
	if job.ID == "" {
		job.ID = s.newID()
	}
	if job.CreatedAt.IsZero() {
		job.CreatedAt = s.now()
	}
	job.Seq = 0
	job.CreatedAt = stamp(job.CreatedAt)
	job.DeadlineAt = stampAt(job.DeadlineAt)
	job.State, job.Phase = models.JobQueued, models.PhaseWaiting
	job.Revision = 0
	return job
}

func liveKey(tx *gorm.DB, tenantID, key string, now time.Time) (row idempotencyRow, err error) {
	return row, tx.Where("tenant_id = ? AND key = ? AND until > ?", tenantID, key, now).Take(&row).Error
}

// replay finds the job that an earlier request under the same key made.
func replay(tx *gorm.DB, fresh models.Job, idem models.Idempotency) (models.Job, bool, error) {
	row, err := liveKey(tx, fresh.TenantID, idem.Key, fresh.CreatedAt)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return models.Job{}, false, nil
	}
	if err != nil {
		return models.Job{}, false, err
	}
	if row.Fingerprint != idem.Fingerprint {
		return models.Job{}, false, models.Errorf(models.CodeUnprocessed, "idempotency_mismatch",
			"this Idempotency-Key was used for a different request; use a new key for a new request")
	}
	job, err := jobByID(tx, fresh.TenantID, row.JobID)
	return job, err == nil, err
}

// remember stores the request's key in the place of an expired one, and throws a few other expired ones away.
func remember(tx *gorm.DB, job models.Job, idem *models.Idempotency) error {
	if idem == nil {
		return nil
	}
	if err := tx.Exec(`DELETE FROM idempotency_keys WHERE tenant_id = ? AND key = ?`, job.TenantID, idem.Key).Error; err != nil {
		return err
	}
	if err := tx.Exec(`DELETE FROM idempotency_keys WHERE (tenant_id, key) IN
		(SELECT tenant_id, key FROM idempotency_keys WHERE until <= ? ORDER BY until LIMIT ?)`,
		job.CreatedAt, purgePerAccept).Error; err != nil {
		return err
	}
	return tx.Create(&idempotencyRow{TenantID: job.TenantID, Key: idem.Key, Fingerprint: idem.Fingerprint,
		JobID: job.ID, Until: idem.Until}).Error
}

// checkCaps refuses a job when its tenant's queue or the service's is full.
func checkCaps(tx *gorm.DB, tenantID string, maxAll, maxTenant int) error {
	if maxTenant <= 0 && maxAll <= 0 {
		return nil
	}
	var all, own int
	if err := tx.Raw(`SELECT COALESCE(SUM(queued), 0), COALESCE(SUM(CASE WHEN tenant_id = ? THEN queued END), 0) FROM tenant_load`, tenantID).
		Row().Scan(&all, &own); err != nil {
		return err
	}
	switch {
	case maxTenant > 0 && own >= maxTenant:
		return queueFull("you already have %d waiting jobs, the most allowed; try again when some have run", own)
	case maxAll > 0 && all >= maxAll:
		return queueFull("the service's queue is full (%d waiting jobs); try again later", all)
	}
	return nil
}

func queueFull(format string, queued int) error {
	e := models.Errorf(models.CodeLimited, "queue_full", format, queued)
	e.RetryAfter = 30 // about one job's time
	return e
}

// addMedia stores the assets that came with the request and the job's references to its media.
func addMedia(tx *gorm.DB, job models.Job, n models.NewJob) error {
	if err := addAssets(tx, job, n.Assets, models.AssetMedia, job.CreatedAt); err != nil {
		return err
	}
	if len(n.Payload.Media) == 0 {
		return nil
	}
	rows := make([]mediaRow, 0, len(n.Payload.Media))
	for i, m := range n.Payload.Media {
		rows = append(rows, mediaRow{JobID: job.ID, Position: i, MediaRef: m})
	}
	err := tx.Create(&rows).Error
	if errors.Is(err, gorm.ErrForeignKeyViolated) {
		return &models.Error{Code: models.CodeUnprocessed, Name: "media_gone", Err: err,
			Detail: "an input medium of this job has been deleted meanwhile; send it again"}
	}
	return err
}
