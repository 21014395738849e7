package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// Outputs reads a job's outputs in their order.
func (s *Store) Outputs(ctx context.Context, jobID string) ([]models.Output, error) {
	out := []models.Output{}
	err := s.read(ctx).Where("job_id = ?", jobID).Order(`"index"`).Find(&out).Error
	return out, translate(err, "read outputs", "output")
}

// Output reads one output by its asset's id.
func (s *Store) Output(ctx context.Context, id string) (models.Output, error) {
	return take[models.Output](s.read(ctx).Where("id = ?", id), "output")
}

// Asset reads what is known of a stored blob.
func (s *Store) Asset(ctx context.Context, id string) (models.Asset, error) {
	return take[models.Asset](s.read(ctx).Where("id = ?", id), "asset")
}

// addAssets stores assets of a job, filling what follows from the job. It does not change its argument.
func addAssets(tx *gorm.DB, job models.Job, assets []models.Asset, kind string, at time.Time) error {
	if len(assets) == 0 {
		return nil
	}
	rows := make([]models.Asset, 0, len(assets))
	for _, a := range assets {
		a.TenantID, a.JobID = job.TenantID, job.ID
		if a.Kind == "" {
			a.Kind = kind
		}
		if a.CreatedAt.IsZero() {
			a.CreatedAt = at
		}
		rows = append(rows, a)
	}
	return assetsTable.insert(tx, rows...)
}

// addOutputs stores a job's outputs in the given order.
func addOutputs(tx *gorm.DB, job models.Job, outputs []models.Output, at time.Time) error {
	if len(outputs) == 0 {
		return nil
	}
	rows := make([]models.Output, 0, len(outputs))
	for i, o := range outputs {
		o.TenantID, o.JobID, o.Index = job.TenantID, job.ID, i
		if o.CreatedAt.IsZero() {
			o.CreatedAt = at
		}
		rows = append(rows, o)
	}
	return outputsTable.insert(tx, rows...)
}

// take reads the one row that q finds; noun names it in the CodeNotFound.
func take[T any](q *gorm.DB, noun string) (row T, err error) {
	err = q.Take(&row).Error
	return row, translate(err, "read "+noun, noun)
}
