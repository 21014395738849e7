package store

import (
	"context"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// SaveProgress stores snapshots of running jobs in one transaction. Percent never falls and stays below 100; a phase
// does not go back from collecting. Updates of attempts that do not own their job any more are skipped. The jobs'
// revisions stay: progress is not an event.
func (s *Store) SaveProgress(ctx context.Context, updates []models.ProgressUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	return s.write(ctx, "save progress", "job", func(tx *gorm.DB) error {
		for _, u := range updates {
			p := progressed(models.Progress{}, u.Progress)
			err := tx.Exec(`UPDATE jobs SET
				percent = CASE WHEN percent > ? THEN percent ELSE ? END,
				phase = CASE WHEN phase = 'collecting' THEN phase ELSE ? END,
				value = ?, max = ?, nodes_done = ?, nodes_total = ?, current_node = ?, current_class = ?,
				last_event_at = COALESCE(?, last_event_at)
				WHERE id = ? AND attempt_id = ? AND state = 'running'`,
				p.Percent, p.Percent, runningPhase(u.Phase), p.Value, p.Max, p.NodesDone, p.NodesTotal,
				p.CurrentNode, p.CurrentClass, p.LastEventAt, u.JobID, u.AttemptID).Error
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// runningPhase keeps phases of other states out of a running job: they came late.
func runningPhase(p models.Phase) models.Phase {
	if p == models.PhaseLoading || p == models.PhaseCollecting {
		return p
	}
	return models.PhaseExecuting
}
