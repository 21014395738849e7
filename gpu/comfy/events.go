package comfy

import (
	"encoding/json"
	"slices"
	"strings"

	"comfyfleet/gpu"
)

// decoder turns the messages of one connection into events. It remembers which submitted node an expanded one belongs
// to, because only some events say so.
type decoder struct {
	prompt  string            // whose nodes display describes
	display map[string]string // node → submitted node, where they differ
}

// text decodes a text message. ok is false for what is not used or not understood.
func (d *decoder) text(raw []byte) (e gpu.Event, ok bool) {
	var env struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if decode(raw, &env) != nil {
		return gpu.Event{}, false
	}
	switch env.Type {
	case "status":
		return status(env.Data)
	case "executing":
		return d.executing(env.Data)
	case "progress":
		return d.progress(env.Data)
	case "progress_state":
		return d.progressState(env.Data)
	case "executed":
		return d.executed(env.Data)
	}
	kind, ok := messageKinds[env.Type]
	if !ok {
		return gpu.Event{}, false
	}
	return d.message(kind, env.Data)
}

// messageKinds are the events whose fields message describes.
var messageKinds = map[string]gpu.EventKind{
	"execution_start":       gpu.EventStart,
	"execution_cached":      gpu.EventCached,
	"execution_success":     gpu.EventSuccess,
	"execution_error":       gpu.EventException,
	"execution_interrupted": gpu.EventInterrupted,
}

func (d *decoder) message(kind gpu.EventKind, raw []byte) (gpu.Event, bool) {
	var m message
	if json.Unmarshal(raw, &m) != nil {
		return gpu.Event{}, false
	}
	e := gpu.Event{Kind: kind, PromptID: m.PromptID, Node: d.shown(m.PromptID, m.NodeID)}
	switch kind {
	case gpu.EventStart:
		d.prompt, d.display = m.PromptID, nil
	case gpu.EventCached:
		e.Nodes = m.Nodes
	case gpu.EventException:
		e.Exception = m.exception()
		e.Exception.NodeID = e.Node
	}
	return e, true
}

func status(raw []byte) (gpu.Event, bool) {
	var s struct {
		Status struct {
			Exec *struct {
				Remaining int `json:"queue_remaining"`
			} `json:"exec_info"`
		} `json:"status"`
	}
	if json.Unmarshal(raw, &s) != nil || s.Status.Exec == nil {
		return gpu.Event{}, false
	}
	return gpu.Event{Kind: gpu.EventStatus, Remaining: s.Status.Exec.Remaining}, true
}

// executing with a node names what runs now, without one it is the end of the prompt. After a reconnect the engine
// repeats the node without a prompt id.
func (d *decoder) executing(raw []byte) (gpu.Event, bool) {
	var m struct {
		Node     *string `json:"node"`
		Display  *string `json:"display_node"`
		PromptID string  `json:"prompt_id"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return gpu.Event{}, false
	}
	switch {
	case m.Node == nil:
		return gpu.Event{Kind: gpu.EventEnd, PromptID: m.PromptID}, true
	case m.Display != nil:
		return gpu.Event{Kind: gpu.EventNode, PromptID: m.PromptID, Node: *m.Display}, true
	}
	return gpu.Event{Kind: gpu.EventNode, PromptID: m.PromptID, Node: d.shown(m.PromptID, *m.Node)}, true
}

func (d *decoder) progress(raw []byte) (gpu.Event, bool) {
	var m struct {
		Value    float64 `json:"value"`
		Max      float64 `json:"max"`
		Node     string  `json:"node"`
		PromptID string  `json:"prompt_id"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return gpu.Event{}, false
	}
	return gpu.Event{Kind: gpu.EventSteps, PromptID: m.PromptID, Node: d.shown(m.PromptID, m.Node),
		Value: m.Value, Max: m.Max}, true
}

// progressState is cumulative: every message lists all nodes that have begun.
func (d *decoder) progressState(raw []byte) (gpu.Event, bool) {
	var m struct {
		PromptID string `json:"prompt_id"`
		Nodes    map[string]struct {
			Value   float64 `json:"value"`
			Max     float64 `json:"max"`
			State   string  `json:"state"`
			Display string  `json:"display_node_id"`
		} `json:"nodes"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return gpu.Event{}, false
	}
	if d.prompt != m.PromptID {
		d.prompt, d.display = m.PromptID, nil
	}
	e := gpu.Event{Kind: gpu.EventNodes, PromptID: m.PromptID, States: make([]gpu.NodeState, 0, len(m.Nodes))}
	for id, n := range m.Nodes {
		shown := either(n.Display, id)
		if shown != id {
			if d.display == nil {
				d.display = map[string]string{}
			}
			d.display[id] = shown
		}
		e.States = append(e.States, gpu.NodeState{Node: id, Display: shown, State: n.State, Value: n.Value, Max: n.Max})
	}
	// Any fixed order will do, and this one is cheap: the message comes at every step.
	slices.SortFunc(e.States, func(a, b gpu.NodeState) int { return strings.Compare(a.Node, b.Node) })
	return e, true
}

// executed tells what the node made, if it made anything to see. History has it too, at the end.
func (d *decoder) executed(raw []byte) (gpu.Event, bool) {
	var m struct {
		Node     string          `json:"node"`
		Display  string          `json:"display_node"`
		PromptID string          `json:"prompt_id"`
		Output   json.RawMessage `json:"output"`
	}
	if json.Unmarshal(raw, &m) != nil {
		return gpu.Event{}, false
	}
	node := either(m.Display, d.shown(m.PromptID, m.Node))
	return gpu.Event{Kind: gpu.EventExecuted, PromptID: m.PromptID, Node: node, Outputs: nodeOutputs(node, m.Output)}, true
}

// shown is the submitted node that a node belongs to, as far as the engine has said.
func (d *decoder) shown(prompt, node string) string {
	if prompt == d.prompt {
		return either(d.display[node], node)
	}
	return node
}
