package gpu

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"comfyfleet/models"
)

// Task is one attempt as a worker runs it.
type Task struct {
	JobID     string
	AttemptID string // the prompt_id
	// Graph is ready to send, but for media: Media says which file each rewritten value needs.
	Graph json.RawMessage
	// Media is staged before the prompt is sent. The graph already uses "<job id>/<File>".
	Media []Media
	// Nodes maps every submitted node that is reachable from the outputs to its class_type.
	Nodes map[string]string
	// LoaderNodes are those of Nodes that load models: their time counts as loading. ModelFiles are what they load.
	LoaderNodes []string
	ModelFiles  []string
	// FreeFirst unloads models and drops the node cache before the prompt is sent; FreshProcess runs it in a process
	// that has run nothing else (an attached worker can only be freed). Both follow an attempt that ran out of memory.
	FreeFirst    bool
	FreshProcess bool
	Floor        models.Progress // progress never goes below this
	DeadlineAt   *time.Time
	ExtraPNGInfo json.RawMessage
	// Fence is asked right before the prompt is sent, when Stop already knows the attempt; an error drops the task.
	// nil for none.
	Fence func(ctx context.Context) error
	// Resume follows a prompt that an earlier server sent: look it up first, never send it again.
	Resume bool
	// Started says that an earlier server saw the prompt execute.
	Started bool
}

// Media is one input file of a task.
type Media struct {
	// File is a name of ours, unique within the job: "0.png".
	File string
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Observer hears what happens to one task. Staged and Started may write to the database and are called in order from
// one goroutine; an error from them (models.ErrFenced above all) makes the worker drop the prompt. The others must not
// block.
type Observer interface {
	// Staged: the engine has the prompt in its queue.
	Staged(ctx context.Context) error
	// Started: the engine was seen executing it at that time.
	Started(ctx context.Context, at time.Time) error
	Progress(p models.Progress, phase models.Phase)
	// Made: a node says that it made these. It is a hint, and others follow; Outcome.Outputs are what counts.
	Made(outputs []NodeOutput)
	Preview(image []byte, contentType, node string)
}

// Outcome is how a task ended on its worker. Cause "" means that history says success.
type Outcome struct {
	Cause  models.Cause
	Detail string
	// Started says whether the prompt was seen executing.
	Started bool
	// Outputs are to be collected (success, or what was kept of a failure).
	Outputs    []NodeOutput
	Exception  *Exception
	NodeErrors json.RawMessage
	LogTail    []string
	PID        int
	StartedAt  time.Time
	EndedAt    time.Time
	LoadMS     int64
	ExecMS     int64
	NodeTimes  []models.NodeTime
	// Detached: the server stops with "keep"; the prompt runs on and the next server will Resume it. Write nothing.
	Detached bool
}
