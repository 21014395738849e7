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
	// Served orders groups for round robin: the group served longest ago (smallest) is next. It is a virtual time: add
	// Charge(weight) for each placement, so that a heavier group comes round more often.
	Served int64
}

// Input is everything Plan looks at.
type Input struct {
	Now     time.Time
	Workers []models.Worker
	// Waiting holds the head of each group's queue, in any order.
	Waiting []Waiting
	// Staged are the jobs that wait inside an engine behind another prompt. Only those named here are ever taken back.
	Staged []Waiting
	Groups map[string]Load
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
	Start []string // stopped workers to start
	Stop  []string // idle workers to stop
	// TakeBack names staged attempts to take out of their engine's queue, because a worker is idle and would run them now.
	TakeBack []string
	Why      map[string]string // waiting reason of each job that was not placed
}

// stride is what one placement costs a group of weight 1 in virtual time. Large, so that weights divide it finely.
const stride = 1 << 20

// catchUp bounds how far a group that was away may lag behind the others, and so how many placements in a row it gets
// when it comes back.
const catchUp = 4 * stride

// Charge is what one placement adds to the Served of a group of this weight.
func Charge(weight int) int64 { return stride / int64(max(weight, 1)) }

// Plan decides what to do now: which waiting job goes to which worker, which workers to start or stop, and why the rest
// waits. It is a pure function: the same input gives the same decision, and nothing in it is changed.
//
// A worker executes one prompt and holds at most one more; a second is placed on a busy worker only when no ready
// one is free. Caps and pauses come first, then the groups' shares, then priority, then age.
func Plan(in Input) Decision {
	p := newPlanning(in)
	p.place()
	p.takeBack()
	p.scale()
	p.explain()
	return p.out
}
