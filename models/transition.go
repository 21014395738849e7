package models

import (
	"context"
	"encoding/json"
	"time"
)

// NewJob is everything that one accepted request writes, in one transaction.
type NewJob struct {
	Job     Job
	Payload JobPayload
	Assets  []Asset
	// Idempotency is nil when the request carried no key.
	Idempotency *Idempotency
	// MaxQueued and MaxQueuedTenant cap queued jobs of the service and of the tenant; 0 for no cap. Checked inside the
	// transaction: CodeLimited "queue_full".
	MaxQueued       int
	MaxQueuedTenant int
	// Attempt gives the job to a worker with its acceptance, as Store.Claim would right after it; nil lets it wait.
	Attempt *Attempt
}

// Idempotency remembers an accepted request so that its retry gets the first answer.
type Idempotency struct {
	Key string
	// Fingerprint is of the parsed submission; another one under the same key is CodeUnprocessed "idempotency_mismatch".
	Fingerprint string
	Until       time.Time
}

// ProgressUpdate stores a running job's progress. It is dropped silently when AttemptID no longer owns the job.
type ProgressUpdate struct {
	JobID     string
	AttemptID string
	Phase     Phase
	Progress  Progress
}

// Finish ends an attempt and its job with it.
type Finish struct {
	AttemptID string
	// StartedAt is when the prompt began to execute, for an attempt whose start is not stored yet: it is stored with its
	// end, event and all. Simulated says by what it ran. nil when AttemptStarted was said, or it never began.
	StartedAt *time.Time
	Simulated bool
	// Attempt and Job are the final states, e.g. AttemptFailed and JobFailed.
	Attempt AttemptState
	Job     JobState
	At      time.Time
	Cause   Cause
	// Detail is for the attempt, Error for the tenant.
	Detail     string
	ErrorCode  string
	Error      string
	NodeErrors string
	LogTail    string
	Outputs    []Output
	Assets     []Asset
	// Durable returns when the bytes of the outputs are on the disk, with an error when they cannot be, or ctx's when it
	// ends before. nil when they are there. The end is not committed before that: it is ErrNotDurable when that takes long.
	Durable func(ctx context.Context) error
	// Progress is the final snapshot; on success Percent is 100 and NodesDone is NodesTotal.
	Progress  Progress
	PID       int
	LoadMS    int64
	ExecMS    int64
	CollectMS int64
	NodeTimes string
}

// Requeue ends an attempt and puts its job back in the queue, at its old place.
type Requeue struct {
	AttemptID string
	Attempt   AttemptState // AttemptLost or AttemptReleased
	At        time.Time
	Cause     Cause
	Detail    string
	LogTail   string
	PID       int
	// Fault and OOM add to the job's counters. Uncount takes back the count of an attempt that began to execute
	// (our own stop).
	Fault   bool
	OOM     bool
	Uncount bool
	LoadMS  int64
	ExecMS  int64
}

// QueuedJob is a waiting job as the planner needs it.
type QueuedJob struct {
	ID       string
	TenantID string
	Priority int
	Seq      int64
	At       time.Time
	// Avoid names workers on which earlier attempts were lost by their own fault, latest first.
	Avoid        []string
	WorkflowSlug string
}

// TenantLoad is what a tenant has in the fleet.
type TenantLoad struct {
	Weight     int
	Claimed    int // staging, staged and running
	MaxRunning int // 0 for no cap
}

// QueueView is the head of every tenant's queue. Jobs of suspended tenants are left out.
type QueueView struct {
	Jobs    []QueuedJob
	Tenants map[string]TenantLoad
}

// OpenAttempt is an attempt that had not ended when the server stopped.
type OpenAttempt struct {
	Attempt Attempt
	Job     Job
}

// Usage is one tenant's use of the fleet on one UTC day.
type Usage struct {
	TenantID     string `gorm:"primaryKey"`
	Day          string `gorm:"primaryKey"` // 2006-01-02
	WorkflowSlug string `gorm:"primaryKey"` // "" for raw graphs
	Jobs         int64
	Failed       int64
	GPUMS        int64
	OutputBytes  int64
}

// TimeFormat is how times appear on the wire.
const TimeFormat = "2006-01-02T15:04:05.000000+00:00"

// FormatTime writes t in UTC as TimeFormat.
func FormatTime(t time.Time) string { return t.UTC().Format(TimeFormat) }

// WebhookEvent is the event that a job's final state sends.
func WebhookEvent(s JobState) string {
	if s == JobSucceeded {
		return "job.completed"
	}
	return "job.failed"
}

// WebhookPayload is the exact body of a job's webhook.
func WebhookPayload(event, jobID string, at time.Time) []byte {
	b, err := json.Marshal(struct {
		Event     string `json:"event"`
		JobID     string `json:"job_id"`
		Timestamp string `json:"timestamp"`
	}{event, jobID, FormatTime(at)})
	if err != nil {
		panic(err) // three strings always encode
	}
	return b
}
