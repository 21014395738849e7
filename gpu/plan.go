package gpu

import (
	"time"

	"comfyfleet/models"
)

// Waiting is one queued job as Plan sees it.
type Waiting struct {
	JobID string
	// Group is an opaque share group (a tenant); Weight its share, at least 1.
	Group    string
	Weight   int
	Priority int
	Seq      int64 // order of acceptance
	At       time.Time
	// Avoid names workers on which the job was lost before; used only if nothing else is up.
	Avoid []string
	// Models are the model files the graph loads, for affinity (unused for now).
	Models []string
}

// Load is what a share group has at the moment.
type Load struct {
	// Running counts its claimed jobs, staged ones too; MaxRunning caps them, 0 for no cap.
	Running    int
	MaxRunning int
	// Served orders groups for round robin: the group served longest ago (smallest) is next.
	Served int64
}

// Input is everything Plan looks at.
type Input struct {
	Now     time.Time
	Workers []models.Worker
	// Waiting holds the head of each group's queue, in any order.
	Waiting []Waiting
	Groups  map[string]Load
	// Paused stops all placements.
	Paused bool
	// MinReady workers are kept started; ScaleDownAfter idle ones are stopped (0: never).
	MinReady       int
	ScaleDownAfter time.Duration
}

// Placement sends a job to a worker.
type Placement struct {
	JobID   string
	Worker  string
	Because string // one sentence for the job page
}

// Decision is what to do now.
type Decision struct {
	Place []Placement
	Start []string          // stopped workers to start
	Stop  []string          // idle workers to stop
	Why   map[string]string // waiting reason of each job that was not placed
}
