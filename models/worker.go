package models

import "time"

// WorkerKind says who runs the engine process.
type WorkerKind string

const (
	WorkerManaged   WorkerKind = "managed"   // we start ComfyUI
	WorkerAttached  WorkerKind = "attached"  // a URL that somebody else runs
	WorkerSimulated WorkerKind = "simulated" // we start our own stand-in
)

// WorkerState is where a worker stands. One goroutine owns it; everybody else reads snapshots.
type WorkerState string

const (
	WorkerStopped     WorkerState = "stopped"     // no process; started on demand
	WorkerStarting    WorkerState = "starting"    // process up, HTTP does not answer yet
	WorkerReady       WorkerState = "ready"       // idle
	WorkerBusy        WorkerState = "busy"        // executes a prompt
	WorkerDraining    WorkerState = "draining"    // finishes what it has, takes nothing new
	WorkerStopping    WorkerState = "stopping"    // told to end
	WorkerBackoff     WorkerState = "backoff"     // crashed or unreachable; starts again at NextStartAt
	WorkerQuarantined WorkerState = "quarantined" // crash loop; waits for an operator
	WorkerDisabled    WorkerState = "disabled"    // an operator took it out
)

// Up reports whether an engine answers in this state.
func (s WorkerState) Up() bool { return s == WorkerReady || s == WorkerBusy || s == WorkerDraining }

// Worker is a snapshot of one ComfyUI process and the card it owns.
type Worker struct {
	// Name is stable over restarts: gpu0, sim1, attached0.
	Name  string
	Kind  WorkerKind
	State WorkerState
	// Reason is why it is in State, in plain words; "" when there is nothing to say.
	Reason string
	Since  time.Time
	URL    string
	PID    int
	// EngineVersion is what /system_stats says.
	EngineVersion string
	StartedAt     *time.Time
	// NextStartAt is when a worker in backoff starts again.
	NextStartAt *time.Time
	// IdleSince is when a ready worker last had something to do.
	IdleSince *time.Time

	// Executing and Staged are the attempts it has; "" for none.
	Executing      string
	ExecutingJobID string
	Staged         string
	StagedJobID    string

	// Models are the model files that its last prompts loaded, newest first.
	Models []ResidentModel
	// RSS is the process's memory in bytes, 0 when unknown.
	RSS       int64
	JobsDone  int
	Restarts  int // since this server started
	Exits     []WorkerExit
	Card      *Card      // nil when it has none of ours
	Telemetry *Telemetry // newest; nil without a driver
	VRAMTotal int64      // as the engine says, bytes; 0 unknown
	VRAMFree  int64
	Adopted   bool // taken over from an earlier server
	// EngineSimulated says that the engine calls itself our simulator, whoever runs it.
	EngineSimulated bool
	WantDrain       bool
	WantDisabled    bool
}

// Simulated reports whether its results are not real.
func (w Worker) Simulated() bool { return w.Kind == WorkerSimulated || w.EngineSimulated }

// ResidentModel is a model file that a worker probably holds in memory.
type ResidentModel struct {
	File string
	// Size is bytes, 0 when unknown.
	Size     int64
	LastUsed time.Time
}

// WorkerExit is how a worker's process ended.
type WorkerExit struct {
	At  time.Time
	PID int
	// Code is the exit code, -1 when a signal ended it or nobody saw it.
	Code   int
	Signal string
	Reason string // plain words: "out of memory killer", "wedged for 10m0s", "asked to stop"
	// JobID is what it was executing, "" for nothing.
	JobID   string
	Uptime  time.Duration
	LogTail []string
}

// Card is a GPU of this machine.
type Card struct {
	Index       int
	UUID        string
	Name        string
	PCI         string
	MemoryTotal int64 // bytes
}

// Telemetry is one reading of a card.
type Telemetry struct {
	At          time.Time
	GPUUtil     int // percent
	MemUtil     int // percent
	MemoryUsed  int64
	Temperature int     // Celsius
	Power       float64 // watts
	PowerLimit  float64
	ClockSM     int // MHz
	ClockMem    int
	ECCErrors   uint64 // uncorrected, since the driver loaded
	XID         uint64 // last fault, 0 for none
}

// WorkerRecord is what outlives a server about a worker: the operator's wishes and its node definitions.
type WorkerRecord struct {
	Name       string `gorm:"primaryKey"`
	Disabled   bool
	Draining   bool
	Quarantine string // reason, "" for none
	// NodeDefs is the engine's /object_info, stored compressed; nil when never seen.
	NodeDefs   []byte
	NodeDefsAt *time.Time
	UpdatedAt  time.Time
}
