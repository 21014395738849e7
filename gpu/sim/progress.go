package sim

import (
	"encoding/json"
	"strconv"
)

// progress is the state of every node that a prompt has touched, sent whole with each change.
type progress struct {
	promptID string
	order    []string
	nodes    map[string]*nodeProgress
}

// nodeProgress keeps its own JSON, since every message repeats all nodes.
type nodeProgress struct {
	node       *node
	value, max float64
	state      string
	encoded    []byte
}

func newProgress(promptID string) *progress {
	return &progress{promptID: promptID, nodes: map[string]*nodeProgress{}}
}

func (p *progress) set(n *node, value, max float64, state string) {
	e := p.nodes[n.id]
	if e == nil {
		e = &nodeProgress{node: n}
		p.nodes[n.id], p.order = e, append(p.order, n.id)
	}
	e.value, e.max, e.state = value, max, state
	e.encoded = e.encode(p.promptID)
}

func (p *progress) start(n *node)                      { p.set(n, 0, 1, "running") }
func (p *progress) step(n *node, value, total float64) { p.set(n, value, total, "running") }

func (p *progress) finish(n *node) {
	total := 1.0
	if e := p.nodes[n.id]; e != nil {
		total = e.max
	}
	p.set(n, total, total, "finished")
}

func (e *nodeProgress) encode(promptID string) []byte {
	var parent any
	real := e.node.id
	if e.node.parent != "" {
		parent, real = e.node.parent, e.node.parent
	}
	out, err := json.Marshal(ordered{{"value", e.value}, {"max", e.max}, {"state", e.state}, {"node_id", e.node.id}, {"prompt_id", promptID},
		{"display_node_id", e.node.displayID()}, {"parent_node_id", parent}, {"real_node_id", real}})
	if err != nil {
		panic(err) // plain strings and numbers always encode
	}
	return out
}

// encode is the data of a progress_state.
func (p *progress) encode() json.RawMessage {
	out := append(strconv.AppendQuote([]byte(`{"prompt_id":`), p.promptID), `,"nodes":{`...)
	for i, id := range p.order {
		if i > 0 {
			out = append(out, ',')
		}
		key, _ := json.Marshal(id) // a string always encodes
		out = append(append(append(out, key...), ':'), p.nodes[id].encoded...)
	}
	return append(out, '}', '}')
}
