package models

import "time"

// DayBuckets is how many equal parts DayStats cuts its 24 hours into.
const DayBuckets = 48

// DayStats are the figures of the last 24 hours.
type DayStats struct {
	// WaitP90MS is the 90th percentile of the queue time of jobs that started in the last hour, WaitP90DayMS of those of
	// the day; 0 when none started.
	WaitP90MS    int64
	WaitP90DayMS int64
	// Finished counts jobs that reached a final state in the day, Failed those of them that failed or expired.
	Finished int
	Failed   int
	// BusyPercent is the share of the last hour that workers executed prompts, BusyDayPercent of the day; -1 unknown.
	BusyPercent    int
	BusyDayPercent int
	// Buckets are DayBuckets parts of the day, oldest first.
	Buckets []DayBucket
}

// DayBucket is one part of the day.
type DayBucket struct {
	From time.Time
	// OldestWaitMS is the longest queue time of a job that started in it; WaitP90MS the 90th percentile.
	OldestWaitMS int64
	WaitP90MS    int64
	Finished     int
	Failed       int
	BusyPercent  int
}
