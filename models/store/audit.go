package store

import (
	"context"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// Audit appends one entry; its Seq is given here.
func (s *Store) Audit(ctx context.Context, e models.AuditEntry) error {
	if e.At.IsZero() {
		e.At = s.now()
	}
	return s.write(ctx, "write audit log", "audit entry", func(tx *gorm.DB) error {
		row := e
		row.Seq = 0
		return tx.Create(&row).Error
	})
}

// AuditLog reads at most limit entries below the Seq before, newest first; 0 starts at the newest.
func (s *Store) AuditLog(ctx context.Context, before int64, limit int) ([]models.AuditEntry, error) {
	q := s.read(ctx)
	if before > 0 {
		q = q.Where("seq < ?", before)
	}
	list := []models.AuditEntry{}
	err := q.Order("seq DESC").Limit(limit).Find(&list).Error
	return list, translate(err, "read audit log", "audit entry")
}
