package store

import (
	"context"
)

// Backlog is how many jobs of all tenants wait for a worker, and how many a worker has (staging, staged and running).
func (s *Store) Backlog(ctx context.Context) (waiting, claimed int, err error) {
	var sum struct{ Queued, Claimed int }
	err = s.read(ctx).Table("tenant_load").Select("COALESCE(SUM(queued), 0) AS queued, COALESCE(SUM(claimed), 0) AS claimed").Scan(&sum).Error
	return sum.Queued, sum.Claimed, translate(err, "read the backlog", "job")
}
