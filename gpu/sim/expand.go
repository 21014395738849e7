package sim

import (
	"encoding/json"
	"fmt"
)

// expansion is the sub graph that a node turned into.
type expansion struct {
	nodes   []*node // ids without the prefix
	outputs []linkRef
	run     []string // output nodes of the sub graph that must run too
}

// expand adds a node's sub graph to the prompt, under ids like 2.0.0.1, and lets the node wait for it.
func (x *execution) expand(n *node, e *expansion) error {
	prefix := n.id + ".0.0."
	for _, sub := range e.nodes {
		sub.id, sub.parent, sub.display = prefix+sub.id, n.id, n.displayID()
		for i := range sub.inputs {
			if l := sub.inputs[i].link; l != nil && l.inner {
				l.node, l.inner = prefix+l.node, false
			}
		}
		x.nodes[sub.id] = sub
		values := map[string]any{}
		for _, in := range sub.inputs {
			spec, _, ok := x.s.classes[sub.class].input(in.name)
			if !ok || in.link != nil {
				continue
			}
			v, reason := x.s.literal(spec, in.value, false)
			if reason != nil {
				return raisef("ValueError", "expanded node %s: %s", sub.id, reason.Details)
			}
			values[in.name] = v
		}
		x.literals[sub.id] = values
	}
	for i := range e.outputs {
		e.outputs[i].node = prefix + e.outputs[i].node
		x.await(n, e.outputs[i].node)
	}
	for _, id := range e.run {
		x.await(n, prefix+id)
	}
	x.expanded[n.id] = e
	return nil
}

func (x *execution) await(n *node, id string) {
	x.plan.add(id, x.links, x.isCached)
	x.plan.wait(n.id, id)
}

// collect takes an expanded node's values from its sub graph.
func (x *execution) collect(e *expansion) (*cached, error) {
	out := &cached{}
	for _, ref := range e.outputs {
		from := x.results[ref.node]
		if from == nil || ref.slot >= len(from.values) {
			return nil, fmt.Errorf("expansion: %s has no output %d", ref.node, ref.slot)
		}
		out.values = append(out.values, from.values[ref.slot])
	}
	return out, nil
}

// part builds a node of an expansion.
func part(id, class string, inputs ...inputValue) *node {
	return &node{id: id, class: class, hasClass: true, hasInputs: true, inputs: inputs}
}

// within links to a node of the same expansion.
func within(name, id string, slot int) inputValue {
	return inputValue{name: name, link: &linkRef{node: id, slot: slot, inner: true}}
}

func valued(name string, value any) inputValue {
	if f, ok := value.(float64); ok {
		value = json.Number(pyFloat(f).String())
	}
	if i, ok := value.(int); ok {
		value = json.Number(fmt.Sprint(i))
	}
	return inputValue{name: name, value: value}
}
