package store

import (
	"context"
	"slices"
	"time"

	"comfyfleet/models"
)

// statsRows bounds how many of the day's jobs DayStats looks at, newest first, so that a busy house's overview costs the
// same as a quiet one's. Older parts of a day with more jobs stay empty.
const statsRows = 50_000

// statsRow is what DayStats needs of an ended job.
type statsRow struct {
	State      models.JobState
	StartedAt  *time.Time
	FinishedAt time.Time
	QueueMS    int64
	LoadMS     int64
	ExecMS     int64
}

// DayStats are the figures of the 24 hours before now, from jobs that have ended. workers is how many cards there were,
// for the busy percentages; 0 when unknown.
func (s *Store) DayStats(ctx context.Context, now time.Time, workers int) (models.DayStats, error) {
	var rows []statsRow
	err := s.read(ctx).Table("jobs").
		Select("state, started_at, finished_at, queue_ms, load_ms, exec_ms").
		Where("finished_at IS NOT NULL AND finished_at > ?", now.Add(-24*time.Hour)).
		Order("finished_at DESC").Limit(statsRows).Find(&rows).Error
	if err != nil {
		return models.DayStats{}, translate(err, "read the day's figures", "job")
	}
	return dayStats(rows, now, workers), nil
}

// dayStats computes the figures of a day. It is pure.
func dayStats(rows []statsRow, now time.Time, workers int) models.DayStats {
	const part = 24 * time.Hour / models.DayBuckets
	day := models.DayStats{BusyPercent: -1, BusyDayPercent: -1, Buckets: make([]models.DayBucket, models.DayBuckets)}
	began := now.Add(-24 * time.Hour)
	waits := make([][]int64, models.DayBuckets)
	busy := make([]int64, models.DayBuckets)
	var hour, all []int64
	var hourBusy, dayBusy int64
	for _, r := range rows {
		i := min(models.DayBuckets-1, max(0, int(r.FinishedAt.Sub(began)/part)))
		b := &day.Buckets[i]
		b.Finished++
		day.Finished++
		if r.State == models.JobFailed || r.State == models.JobExpired {
			b.Failed++
			day.Failed++
		}
		if r.StartedAt == nil {
			continue
		}
		waits[i] = append(waits[i], r.QueueMS)
		all = append(all, r.QueueMS)
		work := r.LoadMS + r.ExecMS
		busy[i] += work
		dayBusy += work
		if r.FinishedAt.After(now.Add(-time.Hour)) {
			hour = append(hour, r.QueueMS)
			hourBusy += work
		}
	}
	day.WaitP90MS, day.WaitP90DayMS = percentile90(hour), percentile90(all)
	for i := range day.Buckets {
		b := &day.Buckets[i]
		b.From = began.Add(time.Duration(i) * part)
		b.WaitP90MS = percentile90(waits[i])
		if len(waits[i]) > 0 {
			b.OldestWaitMS = slices.Max(waits[i])
		}
		b.BusyPercent = max(0, share(busy[i], workers, part))
	}
	day.BusyPercent, day.BusyDayPercent = share(hourBusy, workers, time.Hour), share(dayBusy, workers, 24*time.Hour)
	return day
}

// share is how much of the workers' time work fills, in percent, at most 100; -1 when there are none.
func share(workMS int64, workers int, of time.Duration) int {
	if workers == 0 {
		return -1
	}
	return int(min(100, 100*workMS/(int64(workers)*of.Milliseconds())))
}

// percentile90 is the smallest value that nine of ten do not exceed, 0 for none.
func percentile90(values []int64) int64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[(len(values)*9+9)/10-1]
}
