package models

import "time"

// JobState is where a job stands. Only the four final states never change again.
type JobState string

const (
	// JobQueued waits for a worker, or waits inside a worker's engine behind the prompt that executes (PhaseStaged).
	JobQueued JobState = "queued"
	// JobRunning means that an engine was seen to execute the job's prompt.
	JobRunning JobState = "running"
	// JobSucceeded means that the engine's history said success and every output is stored. Final.
	JobSucceeded JobState = "succeeded"
	// JobFailed means that the job ended without a result; ErrorCode says why. Final.
	JobFailed JobState = "failed"
	// JobCanceled means that its owner or an operator cancelled it. Final.
	JobCanceled JobState = "canceled"
	// JobExpired means that its deadline passed before it started. Final.
	JobExpired JobState = "expired"
)

// Final reports whether a job in this state never changes again.
func (s JobState) Final() bool {
	return s == JobSucceeded || s == JobFailed || s == JobCanceled || s == JobExpired
}

// Phase says what is being done for a job within its state.
type Phase string

const (
	PhaseWaiting    Phase = "waiting"    // queued: no worker has it
	PhaseStaging    Phase = "staging"    // queued: an attempt exists, its media goes to the worker
	PhaseStaged     Phase = "staged"     // queued: its prompt waits in the engine's queue
	PhaseLoading    Phase = "loading"    // running: the current node loads a model
	PhaseExecuting  Phase = "executing"  // running: nodes run
	PhaseCollecting Phase = "collecting" // running: outputs are being stored
	PhaseNone       Phase = ""           // final
)

// Origin says through which door a job came.
type Origin string

const (
	OriginAPI       Origin = "api"
	OriginDashboard Origin = "dashboard"
)

// Priority bounds: higher runs first within a tenant.
const (
	MinPriority = -100
	MaxPriority = 100
)

// MaxFaults is how many times a job may take its worker down (crash, wedge, poisoned GPU) before it is failed.
const MaxFaults = 3

// MaxOOMs is how many attempts may end out of memory before the job is failed.
const MaxOOMs = 3

// Job is one request to run a graph. The graph and other big values are in JobPayload.
type Job struct {
	// Seq is the order of acceptance; lists and cursors go by it. Never shown to tenants.
	Seq int64 `gorm:"primaryKey;autoIncrement"`
	// ID is a lower-case UUID.
	ID       string
	TenantID string
	// KeyID is the API key that submitted it, "" from the dashboard.
	KeyID    string
	Origin   Origin
	State    JobState
	Phase    Phase
	Priority int
	// WorkflowSlug and WorkflowVersion are "" and 0 for a raw graph.
	WorkflowSlug    string
	WorkflowVersion int

	CreatedAt time.Time
	// StartedAt is when an engine first was seen executing it.
	StartedAt  *time.Time
	FinishedAt *time.Time
	// DeadlineAt ends the job if it has not finished; nil for none.
	DeadlineAt *time.Time
	// EstimatedSeconds is how long it was expected to take when it was accepted, 30 before anything was measured; a
	// retry of the request is told the same.
	EstimatedSeconds int

	WebhookURL string
	// Metadata is the tenant's own JSON object, "" for none; at most MaxMetadata bytes.
	Metadata string

	// AttemptID is the current attempt, "" when none. Every later write of an attempt is fenced by it.
	AttemptID string
	// PromptID is the id of the last prompt sent for the job; kept after the attempt ended.
	PromptID string
	// Worker is the name of the worker of the current or last attempt.
	Worker string
	// Attempts counts attempts that began to execute.
	Attempts int
	// Faults counts attempts whose worker died, wedged or was poisoned while executing this job.
	Faults int
	// OOMs counts attempts that ended out of memory.
	OOMs      int
	Simulated bool

	Progress Progress `gorm:"embedded"`

	// WaitingReason is why a queued job does not run, in plain words; "" when it does.
	WaitingReason string

	ErrorCode string
	// Error is the message that the tenant reads.
	Error string
	// NodeErrors is the engine's node_errors object as JSON, "" for none.
	NodeErrors string
	// LogTail is the worker's last log lines of a failed job, newline separated, ANSI stripped.
	LogTail string

	Metrics Metrics `gorm:"embedded"`

	// Revision counts the job's stored events; it is the id of its live stream.
	Revision int64
}

// Progress is a snapshot of how far a job is. Percent never decreases and is 100 only in JobSucceeded.
type Progress struct {
	Percent int
	// Value and Max are the step counter of the current node, 0 when it has none.
	Value int
	Max   int
	// NodesDone and NodesTotal count submitted nodes that are reachable from the outputs.
	NodesDone  int
	NodesTotal int
	// CurrentNode is the submitted node that runs, "" for none. CurrentClass is its class_type.
	CurrentNode  string
	CurrentClass string
	// LastEventAt is when the engine last said anything about the job.
	LastEventAt *time.Time
}

// Metrics are a job's times, in milliseconds; zero until known.
type Metrics struct {
	QueueMS   int64
	LoadMS    int64
	ExecMS    int64
	CollectMS int64
	// GPUMS is the card time charged to the tenant: execution_start to the engine's end, over counted attempts.
	GPUMS int64
}

// JobPayload holds a job's big values, written once with the job.
type JobPayload struct {
	JobID string
	// Graph is the API-format graph after inputs and params were applied, before media and output names are
	// rewritten for an attempt.
	Graph []byte
	// Media lists the job's input media in the order of the request.
	Media []MediaRef
	// Inputs is the request's inputs and params as sent (image values replaced by their media names), for "run again"; may be empty.
	Inputs []byte
	// ExtraPNGInfo is the editor's workflow to embed in files, nil for none.
	ExtraPNGInfo []byte
}

// MediaRef is one input medium of a job.
type MediaRef struct {
	// Name is opaque: graph values equal to it mean this medium.
	Name    string
	AssetID string
	Size    int64
	SHA256  string
	// ContentType is what the bytes were seen to be.
	ContentType string
}

// Asset is a stored blob: an input medium, or an output that is not small.
type Asset struct {
	ID       string `gorm:"primaryKey"`
	TenantID string
	JobID    string
	// Kind is AssetMedia or AssetOutput.
	Kind        string
	Size        int64
	SHA256      string
	ContentType string
	CreatedAt   time.Time
}

// Kinds of assets.
const (
	AssetMedia  = "media"
	AssetOutput = "output"
)

// Output is one artefact of a succeeded job, in the order of its node and position.
type Output struct {
	// ID is the asset's id, when it has one.
	ID       string `gorm:"primaryKey"`
	JobID    string
	TenantID string
	Index    int
	NodeID   string
	// Filename is <first 8 of job id>_<prefix>_<n>.<ext>, or text_output_<node>.txt.
	Filename string
	// Type is image, video, audio, text, model or file.
	Type        string
	ContentType string
	Size        int64
	SHA256      string
	// Temp marks previews that the graph did not ask to keep.
	Temp      bool
	CreatedAt time.Time
	// Content is the bytes of an output of at most MaxSmallOutput bytes; nil when they are in the storage, under ID.
	Content []byte
}

// MaxSmallOutput is the size in bytes up to which an output is kept with its job instead of as a file: a file takes as
// much of a disk, and two syncs.
const MaxSmallOutput = 4096
