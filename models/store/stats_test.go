package store

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func TestTheDaysFiguresFollowFromItsJobs(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) *time.Time { v := now.Add(-ago); return &v }
	row := func(ago time.Duration, state models.JobState, queue, exec int64) statsRow {
		return statsRow{State: state, StartedAt: at(ago + time.Second), FinishedAt: now.Add(-ago), QueueMS: queue, ExecMS: exec}
	}
	var rows []statsRow
	for i := range 10 {
		rows = append(rows, row(time.Minute, models.JobSucceeded, int64(100*(i+1)), 36_000))
	}
	rows = append(rows, row(5*time.Hour, models.JobFailed, 9_000, 60_000))
	rows = append(rows, statsRow{State: models.JobExpired, FinishedAt: now.Add(-23 * time.Hour)}, statsRow{State: models.JobCanceled, FinishedAt: now.Add(-23 * time.Hour)})

	d := dayStats(rows, now, 1)
	require.EqualValues(t, 900, d.WaitP90MS, "nine of ten waited no longer")
	require.EqualValues(t, 1000, d.WaitP90DayMS)
	require.Equal(t, 13, d.Finished)
	require.Equal(t, 2, d.Failed, "failed and expired, not cancelled")
	require.Equal(t, 10, d.BusyPercent, "360 s of an hour")
	require.Len(t, d.Buckets, models.DayBuckets)
	last := d.Buckets[models.DayBuckets-1]
	require.Equal(t, 10, last.Finished)
	require.EqualValues(t, 1000, last.OldestWaitMS)
	require.Equal(t, 20, last.BusyPercent, "360 s of half an hour")
	require.Equal(t, 1, d.Buckets[models.DayBuckets-10].Failed)

	none := dayStats(nil, now, 0)
	require.Equal(t, -1, none.BusyPercent)
	require.Zero(t, none.WaitP90MS)
}
