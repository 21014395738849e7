package models

import "time"

// AttemptState is where an attempt stands.
type AttemptState string

const (
	AttemptStaging    AttemptState = "staging"    // committed; media and prompt go to the worker
	AttemptStaged     AttemptState = "staged"     // the engine has the prompt in its queue
	AttemptExecuting  AttemptState = "executing"  // the engine was seen executing it
	AttemptCollecting AttemptState = "collecting" // the engine is done; outputs are being stored
	AttemptSucceeded  AttemptState = "succeeded"  // final
	AttemptFailed     AttemptState = "failed"     // final: the graph's own fault
	AttemptLost       AttemptState = "lost"       // final: the infrastructure's fault; the job may try again
	AttemptCanceled   AttemptState = "canceled"   // final: the job was cancelled or ran out of time
	AttemptReleased   AttemptState = "released"   // final: taken back before it executed, or stopped with the server; never counts
)

// Open reports whether the attempt may still change.
func (s AttemptState) Open() bool {
	return s == AttemptStaging || s == AttemptStaged || s == AttemptExecuting || s == AttemptCollecting
}

// Attempt is one ComfyUI prompt on one worker. ID is the prompt_id and is committed before the prompt is sent.
type Attempt struct {
	ID       string `gorm:"primaryKey"`
	JobID    string
	TenantID string
	Worker   string
	// Number is 1 for the job's first claim and counts every claim.
	Number int
	State  AttemptState
	// PlacedBecause is the planner's reason for this worker.
	PlacedBecause string
	CreatedAt     time.Time
	StagedAt      *time.Time
	StartedAt     *time.Time
	EndedAt       *time.Time
	// Cause is a Cause constant, "" while open or succeeded.
	Cause Cause
	// Detail is the cause in plain words: exit code, exception, which limit.
	Detail string
	// PID is the engine process, 0 when it is not ours.
	PID     int
	LogTail string
	// LoadMS, ExecMS and CollectMS are this attempt's own times.
	LoadMS    int64
	ExecMS    int64
	CollectMS int64
	// NodeTimes is a JSON array of NodeTime, "" until the attempt ended.
	NodeTimes string
}

// NodeTime is how long one submitted node of an attempt took.
type NodeTime struct {
	Node    string `json:"node"`
	Class   string `json:"class"`
	StartMS int64  `json:"start_ms"` // since execution_start
	MS      int64  `json:"ms"`
	Steps   int    `json:"steps,omitempty"`
	Cached  bool   `json:"cached,omitempty"`
	// Loading is the part of MS before the node's first step when its class loads models.
	LoadMS int64 `json:"load_ms,omitempty"`
}

// Cause says why an attempt ended without success. The job's ErrorCode is the cause that failed it.
type Cause string

const (
	CauseNone        Cause = ""
	CauseRejected    Cause = "graph_rejected"     // the engine refused the graph: node_errors
	CauseException   Cause = "node_exception"     // a node raised
	CauseMedia       Cause = "invalid_media"      // staged media was not accepted
	CauseOutputs     Cause = "outputs_failed"     // outputs could not be read or stored
	CauseOOM         Cause = "out_of_memory"      // the card's memory did not suffice
	CauseCrashed     Cause = "worker_crashed"     // the worker's process died
	CauseUnreachable Cause = "worker_unreachable" // the worker did not answer for its limit
	CauseStalled     Cause = "worker_stalled"     // no progress for the phase's limit
	CauseZombie      Cause = "worker_zombie"      // HTTP alive, queue stuck
	CausePoisoned    Cause = "gpu_poisoned"       // a CUDA error that outlives the prompt
	CauseVanished    Cause = "prompt_vanished"    // the engine no longer knows the prompt
	CauseCanceled    Cause = "canceled"           // its owner cancelled it
	CauseDeadline    Cause = "deadline_exceeded"  // timeout_seconds passed
	CauseTakenBack   Cause = "taken_back"         // staged, given to another worker or drained
	CauseServerStop  Cause = "server_stopped"     // our own stop
	CauseInternal    Cause = "internal"           // our own failure
)

// Fault reports whether an attempt that ended by c while executing counts against its job (three and it is failed).
func (c Cause) Fault() bool {
	switch c {
	case CauseCrashed, CauseUnreachable, CauseStalled, CauseZombie, CausePoisoned:
		return true
	}
	return false
}
