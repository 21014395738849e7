package store

import (
	"context"
	"slices"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// sweepPerTx is how many jobs one transaction deletes: about 10 ms, in which other writes wait.
const sweepPerTx = 100

// SweepJobs deletes at most limit jobs that finished before that time, oldest first, with everything that belongs to
// them, and returns the assets whose blobs nobody needs any more. An asset that another job uses as its medium stays
// until that job is swept. On an error the assets of what was deleted so far are returned with it.
func (s *Store) SweepJobs(ctx context.Context, finishedBefore time.Time, limit int) (assetIDs []string, jobs int, err error) {
	for jobs < limit {
		n := min(sweepPerTx, limit-jobs)
		var old []sweptRow
		if err := s.read(ctx).Table("jobs").Where("finished_at < ?", finishedBefore).Order("finished_at").Limit(n).
			Find(&old).Error; err != nil {
			return assetIDs, jobs, translate(err, "look for old jobs", "job")
		}
		if len(old) == 0 {
			return assetIDs, jobs, nil
		}
		gone, err := s.sweep(ctx, old)
		if err != nil {
			return assetIDs, jobs, err
		}
		assetIDs = append(assetIDs, gone...)
		jobs += len(old)
	}
	return assetIDs, jobs, nil
}

// sweptRow is a job to delete.
type sweptRow struct {
	Seq int64
	ID  string
}

// sweep deletes finished jobs and the assets that only they used.
func (s *Store) sweep(ctx context.Context, old []sweptRow) (gone []string, err error) {
	seqs, ids := make([]int64, 0, len(old)), make([]string, 0, len(old))
	for _, job := range old {
		seqs, ids = append(seqs, job.Seq), append(ids, job.ID)
	}
	err = s.write(ctx, "sweep jobs", "job", func(tx *gorm.DB) error {
		gone = nil
		if err := tx.Raw(`SELECT id FROM assets
			WHERE (job_id IN ? OR id IN (SELECT asset_id FROM media_refs WHERE job_id IN ?))
			AND NOT EXISTS (SELECT 1 FROM media_refs r WHERE r.asset_id = assets.id AND r.job_id NOT IN ?)`,
			ids, ids, ids).Scan(&gone).Error; err != nil {
			return err
		}
		// Everything else that hangs on a job goes by cascade.
		if err := tx.Exec(`DELETE FROM jobs WHERE seq IN ?`, seqs).Error; err != nil {
			return err
		}
		for chunk := range slices.Chunk(gone, insertBatch) {
			if err := tx.Where("id IN ?", chunk).Delete(&models.Asset{}).Error; err != nil {
				return err
			}
		}
		return nil
	})
	return gone, err
}
