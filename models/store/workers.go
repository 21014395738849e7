package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// WorkerRecords reads what outlives a server about its workers, by name.
func (s *Store) WorkerRecords(ctx context.Context) ([]models.WorkerRecord, error) {
	list := []models.WorkerRecord{}
	if err := s.read(ctx).Order("name").Find(&list).Error; err != nil {
		return nil, translate(err, "read worker records", "worker")
	}
	for i := range list {
		var err error
		if list[i].NodeDefs, err = s.unpack(list[i].NodeDefs); err != nil {
			return nil, translate(err, "read worker records", "worker")
		}
	}
	return list, nil
}

// SaveWorkerRecord stores a record. Nil NodeDefs keep the stored ones and their time.
func (s *Store) SaveWorkerRecord(ctx context.Context, r models.WorkerRecord) error {
	defs := s.pack(r.NodeDefs)
	if r.UpdatedAt.IsZero() {
		r.UpdatedAt = s.now()
	}
	var defsAt *time.Time
	if defs != nil {
		defsAt = r.NodeDefsAt
	}
	return s.write(ctx, "store worker record", "worker", func(tx *gorm.DB) error {
		return tx.Exec(`INSERT INTO worker_records (name, disabled, draining, quarantine, node_defs, node_defs_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET disabled = excluded.disabled, draining = excluded.draining,
			quarantine = excluded.quarantine, updated_at = excluded.updated_at,
			node_defs = COALESCE(excluded.node_defs, worker_records.node_defs),
			node_defs_at = COALESCE(excluded.node_defs_at, worker_records.node_defs_at)`,
			r.Name, r.Disabled, r.Draining, r.Quarantine, defs, defsAt, r.UpdatedAt).Error
	})
}
