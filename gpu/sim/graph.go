package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// errShape is a body that Python would have tripped over: the answer is a bare 500, as with ComfyUI.
var errShape = errors.New("unexpected shape")

// graph is a prompt in the client's order of nodes, which decides the order of execution where links leave it open.
type graph struct {
	nodes []*node
	byID  map[string]*node
	raw   json.RawMessage
}

// node is one node of a prompt.
type node struct {
	id        string
	class     string
	hasClass  bool
	title     string
	hasTitle  bool
	inputs    []inputValue
	hasInputs bool

	// Set for nodes that an expansion added.
	parent, display string
}

// inputValue is a literal or, when link is set, a reference to another node's output.
type inputValue struct {
	name  string
	value any // with json.Number for numbers
	link  *linkRef
	raw   json.RawMessage
}

// linkRef is [node id, slot].
type linkRef struct {
	node  string
	slot  int
	inner bool // within an expansion: the id still lacks its prefix
}

func (n *node) input(name string) (inputValue, bool) {
	for i := len(n.inputs) - 1; i >= 0; i-- { // of a repeated key the last one counts
		if n.inputs[i].name == name {
			return n.inputs[i], true
		}
	}
	return inputValue{}, false
}

// displayID is the submitted node that people see.
func (n *node) displayID() string {
	if n.display != "" {
		return n.display
	}
	return n.id
}

// parseGraph reads an API-format graph.
func parseGraph(raw json.RawMessage) (*graph, error) {
	g := &graph{byID: map[string]*node{}, raw: raw}
	err := eachField(raw, func(id string, value json.RawMessage) error {
		n, err := parseNode(id, value)
		if err != nil {
			return fmt.Errorf("node %s: %w", id, err)
		}
		if old := g.byID[id]; old != nil {
			*old = *n // a repeated key: the last one wins, at the first one's place
			return nil
		}
		g.nodes, g.byID[id] = append(g.nodes, n), n
		return nil
	})
	return g, err
}

func parseNode(id string, raw json.RawMessage) (*node, error) {
	n := &node{id: id}
	err := eachField(raw, func(key string, value json.RawMessage) error {
		switch key {
		case "class_type":
			n.hasClass = true
			return decode(value, &n.class)
		case "_meta":
			var meta struct {
				Title *string `json:"title"`
			}
			if decode(value, &meta) == nil && meta.Title != nil {
				n.title, n.hasTitle = *meta.Title, true
			}
		case "inputs":
			n.hasInputs = true
			return eachField(value, func(name string, value json.RawMessage) error {
				in, err := parseInput(name, value)
				n.inputs = append(n.inputs, in)
				return err
			})
		}
		return nil
	})
	return n, err
}

func parseInput(name string, raw json.RawMessage) (inputValue, error) {
	in := inputValue{name: name, raw: raw}
	if err := decode(raw, &in.value); err != nil {
		return in, err
	}
	if wrapped, ok := in.value.(map[string]any); ok {
		if inner, ok := wrapped["__value__"]; ok {
			in.value = inner // a literal list, which would otherwise be read as a link
			return in, nil
		}
	}
	if pair, ok := in.value.([]any); ok {
		in.link = &linkRef{slot: -1}
		if len(pair) == 2 {
			in.link.node = pyStr(pair[0])
			if slot, ok := pair[1].(json.Number); ok {
				if i, err := slot.Int64(); err == nil {
					in.link.slot = int(i)
				}
			}
		}
	}
	return in, nil
}

// eachField calls fn for each field of a JSON object, in order.
func eachField(raw json.RawMessage, fn func(key string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	open, err := dec.Token()
	if err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	if open != json.Delim('{') {
		return fmt.Errorf("%w: not an object", errShape)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return fmt.Errorf("%w: %w", errShape, err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("%w: %w", errShape, err)
		}
		if err := fn(key.(string), value); err != nil {
			return err
		}
	}
	return nil
}

// decode is json.Unmarshal that keeps numbers as they were written.
func decode(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errShape, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("%w: trailing data", errShape)
	}
	return nil
}
