package store

import (
	"context"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// SaveProgress stores snapshots of running jobs in one transaction. Percent never falls and stays below 100; a phase
// does not go back from collecting. Updates of attempts that do not own their job any more are skipped. The jobs'
// revisions stay: progress is not an event. stored are the attempts of the updates that were not skipped.
func (s *Store) SaveProgress(ctx context.Context, updates []models.ProgressUpdate) (stored []string, err error) {
	if len(updates) == 0 {
		return nil, nil
	}
	err = s.write(ctx, "save progress", "job", func(tx *gorm.DB) error {
		stored = nil // it may be run again
		for _, u := range updates {
			p := progressed(models.Progress{}, u.Progress)
			done := tx.Exec(`UPDATE jobs SET
				percent = CASE WHEN percent > ? THEN percent ELSE ? END,
				phase = CASE WHEN phase = 'collecting' THEN phase ELSE ? END,
				value = ?, max = ?, nodes_done = ?, nodes_total = ?, current_node = ?, current_class = ?,
				last_event_at = COALESCE(?, last_event_at)
				WHERE id = ? AND attempt_id = ? AND state = 'running'`,
				p.Percent, p.Percent, runningPhase(u.Phase), p.Value, p.Max, p.NodesDone, p.NodesTotal,
				p.CurrentNode, p.CurrentClass, p.LastEventAt, u.JobID, u.AttemptID)
			if done.Error != nil {
				return done.Error
			}
			if done.RowsAffected > 0 {
				stored = append(stored, u.AttemptID)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// runningPhase keeps phases of other states out of a running job: they came late.
func runningPhase(p models.Phase) models.Phase {
	if p == models.PhaseLoading || p == models.PhaseCollecting {
		return p
	}
	return models.PhaseExecuting
}
