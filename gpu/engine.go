package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// Engine is one ComfyUI server seen over its own protocol. gpu/comfy implements it; the manager is its only user.
// Every call obeys ctx. An error that wraps ErrUnreachable says that nothing can be concluded about the prompt.
type Engine interface {
	// Info probes /system_stats; an answer means ready.
	Info(ctx context.Context) (EngineInfo, error)
	// NodeDefs is the raw /object_info.
	NodeDefs(ctx context.Context) (json.RawMessage, error)
	// Submit posts the prompt under its own id. A *Rejection says that the engine refused the graph (also when it
	// answered 200 with node_errors: the prompt was then deleted again). After any other error the prompt may
	// still have been queued: look at Queue and History before sending it again.
	Submit(ctx context.Context, p Prompt) error
	// Queue is what runs and waits, in run order.
	Queue(ctx context.Context) (Queue, error)
	// History is the prompt's entry, nil when unknown or unfinished.
	History(ctx context.Context, promptID string) (*History, error)
	// Forget deletes a history entry.
	Forget(ctx context.Context, promptID string) error
	// Unqueue removes a pending prompt. It has no effect on a running one and says nothing; confirm with Queue.
	Unqueue(ctx context.Context, promptID string) error
	// Interrupt asks a running prompt to stop. It may be lost; repeat until the end is seen.
	Interrupt(ctx context.Context, promptID string) error
	// Free unloads models; memory also drops the node cache.
	Free(ctx context.Context, memory bool) error
	// Upload stores an input file and returns the name that graphs must use ("sub/name").
	Upload(ctx context.Context, subfolder, name string, r io.Reader) (string, error)
	// View streams an output file. size is -1 when unknown.
	View(ctx context.Context, f FileRef) (body io.ReadCloser, size int64, err error)
	// Watch holds a WebSocket under clientID and calls sink for every event, in order, from one goroutine, until
	// ctx ends. It reconnects by itself and says so with EventConnected and EventDisconnected. Sink must not block.
	Watch(ctx context.Context, clientID string, sink func(Event)) error
}

// EngineInfo is what /system_stats says.
type EngineInfo struct {
	Version   string
	VRAMTotal int64 // bytes of the first device, 0 when unknown
	VRAMFree  int64
	Argv      []string
	// Simulated is true when the engine says that it is comfyfleet's simulator.
	Simulated bool
}

// Prompt is what Submit sends.
type Prompt struct {
	ID       string // lower-case UUID
	ClientID string // of the Watch that is to hear of it
	Graph    json.RawMessage
	// Previews asks for preview frames (extra_data.preview_method auto).
	Previews bool
	// ExtraPNGInfo is embedded in output files, nil for none.
	ExtraPNGInfo json.RawMessage
}

// Queue is the engine's queue.
type Queue struct {
	Running []QueueItem
	Pending []QueueItem // in run order
}

// QueueItem is one prompt of a queue.
type QueueItem struct {
	PromptID string
	ClientID string
	// Outputs are the output nodes that will run.
	Outputs []string
}

// Has reports where a prompt is.
func (q Queue) Has(id string) (running, pending bool) {
	for _, i := range q.Running {
		running = running || i.PromptID == id
	}
	for _, i := range q.Pending {
		pending = pending || i.PromptID == id
	}
	return running, pending
}

// History is the engine's record of a finished prompt: the truth about its end.
type History struct {
	PromptID string
	// Success is status_str "success".
	Success     bool
	Interrupted bool
	// Exception is set when a node raised.
	Exception *Exception
	// Outputs are in the order of node ids (numbers first, then text) and position.
	Outputs []NodeOutput
	Cached  []string
	// StartedAt and EndedAt are the engine's timestamps, zero when it gave none.
	StartedAt time.Time
	EndedAt   time.Time
}

// NodeOutput is one artefact of a node: a file or a text.
type NodeOutput struct {
	// Node is the submitted node (display node) it belongs to.
	Node string
	// Key is the ui key: images, gifs, audio, text …
	Key string
	// File is set for files.
	File *FileRef
	// Text is set for text outputs.
	Text string
	// IsText tells an empty text from a file.
	IsText bool
}

// FileRef names a file on a worker.
type FileRef struct {
	Filename  string
	Subfolder string
	Type      string // output, temp, input
	// Format is a MIME type if the node gave one.
	Format string
}

// Exception is a node's error as the engine reports it.
type Exception struct {
	NodeID    string
	NodeType  string
	Type      string
	Message   string
	Traceback []string
}

// EventKind names a WebSocket event.
type EventKind int

const (
	EventConnected EventKind = iota + 1
	EventDisconnected
	EventStatus      // queue length changed: Remaining
	EventStart       // execution_start
	EventCached      // execution_cached: Nodes
	EventNode        // executing with a node: Node
	EventSteps       // progress: Node, Value, Max
	EventNodes       // progress_state: States
	EventExecuted    // executed: Node, Outputs
	EventException   // execution_error: not terminal by itself
	EventInterrupted // execution_interrupted
	EventSuccess     // execution_success: history does not exist yet
	EventEnd         // executing with node null: history exists now
	EventPreview     // a preview frame: Image
	EventText        // progress text of a node: Text
)

// Event is one WebSocket event. Node ids are display nodes where the engine tells them, so that nodes that
// expansion added count under the submitted node.
type Event struct {
	Kind EventKind
	// PromptID is "" for events that do not name one (status, previews of type 1, executing after a reconnect).
	PromptID  string
	Node      string
	Value     float64
	Max       float64
	Nodes     []string
	States    []NodeState
	Outputs   []NodeOutput // that the node made
	Exception *Exception
	Image     []byte
	ImageType string // image/jpeg or image/png
	Text      string
	Remaining int
	At        time.Time
}

// greets says that the engine tells a new socket which node executes. Its web server does that from memory: it is no
// sign of life of what executes.
func (e Event) greets() bool { return e.Kind == EventNode && e.PromptID == "" }

// NodeState is one entry of a progress_state.
type NodeState struct {
	Node    string // as the engine numbers it, e.g. 2.0.0.1
	Display string // submitted node
	State   string // running, finished, error
	Value   float64
	Max     float64
}

// Rejection is the engine's refusal of a graph.
type Rejection struct {
	Type       string // prompt_outputs_failed_validation, missing_node_type …
	Message    string
	Details    string
	NodeErrors json.RawMessage // never nil
}

func (r *Rejection) Error() string { return r.Type + ": " + r.Message }

// ErrUnreachable marks errors after which the engine's state is unknown.
var ErrUnreachable = errors.New("engine unreachable")
