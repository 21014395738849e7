package store

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// loadRow is what a tenant has in the queue and in the fleet.
type loadRow struct {
	TenantID string `gorm:"primaryKey"`
	Queued   int
	Claimed  int
}

func (loadRow) TableName() string { return "tenant_load" }

// loadOf is what one job adds to its tenant's counters.
func loadOf(job models.Job) (queued, claimed int) {
	switch {
	case job.State.Final() || job.State == "":
		return 0, 0
	case job.State == models.JobQueued && job.Phase == models.PhaseWaiting:
		return 1, 0
	}
	return 0, 1
}

// moveLoad changes the counters of a job's tenant as the job steps from before to after.
func moveLoad(tx *gorm.DB, before, after models.Job) error {
	q0, c0 := loadOf(before)
	q1, c1 := loadOf(after)
	if q0 == q1 && c0 == c1 {
		return nil
	}
	_, err := execSQL(tx, `INSERT INTO tenant_load (tenant_id, queued, claimed) VALUES (?, ?, ?)
		ON CONFLICT (tenant_id) DO UPDATE
		SET queued = tenant_load.queued + excluded.queued, claimed = tenant_load.claimed + excluded.claimed`,
		after.TenantID, q1-q0, c1-c0)
	return err
}

// VerifyCounters compares every tenant's counters with its jobs and names each difference. It scans all open jobs.
func (s *Store) VerifyCounters(ctx context.Context) error {
	var wrong []error
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		wrong = nil
		var kept, counted []loadRow
		if err := tx.Where("queued <> 0 OR claimed <> 0").Find(&kept).Error; err != nil {
			return err
		}
		if err := tx.Raw(`SELECT tenant_id, SUM(CASE WHEN phase = 'waiting' THEN 1 ELSE 0 END) AS queued,
			SUM(CASE WHEN phase = 'waiting' THEN 0 ELSE 1 END) AS claimed
			FROM jobs WHERE state IN ('queued', 'running') GROUP BY tenant_id`).Scan(&counted).Error; err != nil {
			return err
		}
		truth := map[string]loadRow{}
		for _, row := range counted {
			truth[row.TenantID] = row
		}
		for _, row := range kept {
			if want := truth[row.TenantID]; want.Queued != row.Queued || want.Claimed != row.Claimed {
				wrong = append(wrong, fmt.Errorf("tenant %s: counters say %d queued and %d claimed, its jobs %d and %d",
					row.TenantID, row.Queued, row.Claimed, want.Queued, want.Claimed))
			}
			delete(truth, row.TenantID)
		}
		for id, row := range truth {
			wrong = append(wrong, fmt.Errorf("tenant %s: no counters for %d queued and %d claimed", id, row.Queued, row.Claimed))
		}
		return nil
	})
	return errors.Join(append(wrong, translate(err, "verify counters", "tenant"))...)
}
