package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// UsageOf reads a tenant's use from fromDay to toDay, both included (2006-01-02, UTC), by day and workflow; of all
// tenants for "".
func (s *Store) UsageOf(ctx context.Context, tenantID, fromDay, toDay string) ([]models.Usage, error) {
	q := s.read(ctx).Where("day >= ? AND day <= ?", fromDay, toDay)
	if tenantID != "" {
		q = q.Where("tenant_id = ?", tenantID)
	}
	usage := []models.Usage{}
	err := q.Order("day, tenant_id, workflow_slug").Find(&usage).Error
	return usage, translate(err, "read usage", "usage")
}

// addUsage adds an ended job to its tenant's day. Failed counts failed and expired jobs, not cancelled ones.
func addUsage(tx *gorm.DB, job models.Job, e ending) error {
	failed := 0
	if e.state == models.JobFailed || e.state == models.JobExpired {
		failed = 1
	}
	_, err := execSQL(tx, `INSERT INTO usages (tenant_id, day, workflow_slug, jobs, failed, gpu_ms, output_bytes)
		VALUES (?, ?, ?, 1, ?, ?, ?)
		ON CONFLICT (tenant_id, day, workflow_slug) DO UPDATE
		SET jobs = usages.jobs + 1, failed = usages.failed + excluded.failed,
		    gpu_ms = usages.gpu_ms + excluded.gpu_ms, output_bytes = usages.output_bytes + excluded.output_bytes`,
		job.TenantID, e.at.Format(time.DateOnly), job.WorkflowSlug, failed, job.Metrics.GPUMS, e.outputBytes)
	return err
}
