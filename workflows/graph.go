package workflows

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"comfyfleet/models"
)

// Graph is an API-format graph: nodes in the client's order, values in the client's bytes. Its methods may be called
// from several goroutines as long as none of them is Set.
type Graph struct {
	nodes []*Node
	byID  map[string]*Node
	size  int // bytes as sent
}

// Node is one node of a graph. Its strings are the client's and never become paths.
type Node struct {
	ID    string
	Class string // class_type
	Title string // _meta.title, "" for none

	inputs  []Input
	members []member // as sent; the value of inputs is rendered anew
	key     []byte
}

// Input is one input of a node: a literal, or a link to another node's output.
type Input struct {
	Name  string
	Value json.RawMessage

	key    []byte
	link   Link
	linked bool
}

// newInput reads a link once: every walk through the graph asks for it.
func newInput(name string, key []byte, value json.RawMessage) Input {
	in := Input{Name: name, Value: value, key: key}
	in.link, in.linked = parseLink(value)
	return in
}

// Link is a value that takes another node's output.
type Link struct {
	Node string
	Slot int
}

// Nodes lists the nodes in the client's order. The slice is the graph's own.
func (g *Graph) Nodes() []*Node { return g.nodes }

// Node finds a node by its id.
func (g *Graph) Node(id string) (*Node, bool) {
	n, ok := g.byID[id]
	return n, ok
}

// Inputs lists the node's inputs in the client's order. The slice is the node's own.
func (n *Node) Inputs() []Input { return n.inputs }

// Input is the value of one input.
func (n *Node) Input(name string) (json.RawMessage, bool) {
	for _, in := range n.inputs {
		if in.Name == name {
			return in.Value, true
		}
	}
	return nil, false
}

// Text is a literal string.
func (in Input) Text() (string, bool) {
	if len(in.Value) == 0 || in.Value[0] != '"' {
		return "", false
	}
	return unquote(in.Value), true
}

// Link reads the value as [node id, slot]. ComfyUI takes every array for a link; one of another form is a Check error.
func (in Input) Link() (Link, bool) { return in.link, in.linked }

func parseLink(value json.RawMessage) (Link, bool) {
	if len(value) == 0 || value[0] != '[' {
		return Link{}, false
	}
	var parts [2]json.RawMessage
	n := 0
	for v := range elements(value) {
		if n == len(parts) {
			return Link{}, false
		}
		parts[n] = v
		n++
	}
	if n < len(parts) || parts[0][0] != '"' {
		return Link{}, false
	}
	slot, err := strconv.ParseFloat(string(parts[1]), 64) // ComfyUI takes 0.0 for 0
	if err != nil || slot != float64(int(slot)) || slot < 0 {
		return Link{}, false
	}
	return Link{Node: unquote(parts[0]), Slot: int(slot)}, true
}

func (in Input) isArray() bool { return len(in.Value) > 0 && in.Value[0] == '[' }

// JSON renders the graph: the client's order, keys and values, without the white space between them.
func (g *Graph) JSON() []byte {
	var out bytes.Buffer
	out.Grow(g.size)
	out.WriteByte('{')
	for i, n := range g.nodes {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(n.key)
		out.WriteByte(':')
		n.render(&out)
	}
	out.WriteByte('}')
	return out.Bytes()
}

func (n *Node) render(out *bytes.Buffer) {
	out.WriteByte('{')
	for i, m := range n.members {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(m.key)
		out.WriteByte(':')
		if m.name != "inputs" {
			out.Write(m.value)
			continue
		}
		out.WriteByte('{')
		for j, in := range n.inputs {
			if j > 0 {
				out.WriteByte(',')
			}
			out.Write(in.key)
			out.WriteByte(':')
			out.Write(in.Value)
		}
		out.WriteByte('}')
	}
	out.WriteByte('}')
}

// Clone is a copy that can be changed without touching g. Values are shared: they are replaced, never written into.
func (g *Graph) Clone() *Graph {
	c := &Graph{size: g.size, nodes: make([]*Node, len(g.nodes)), byID: maps.Clone(g.byID)}
	for i, n := range g.nodes {
		twin := *n
		twin.inputs = slices.Clone(n.inputs)
		c.nodes[i], c.byID[n.ID] = &twin, &twin
	}
	return c
}

// Set replaces the value of one input. The node must exist and have the input: a field that is not in the graph is a
// typing error far more often than an optional input. The error's name is unknown_node, unknown_field or invalid_value
// and its field "node", "field" or "value", to which the caller adds which of its inputs it was.
func (g *Graph) Set(node, field string, value json.RawMessage) error {
	n, ok := g.byID[node]
	if !ok {
		return models.FieldErrorf(models.CodeUnprocessed, ErrNameUnknownNode, "node", "the graph has no node %q", shorten(node))
	}
	value = bytes.Clone(bytes.TrimSpace(value))
	if !json.Valid(value) || !utf8.Valid(value) {
		return models.FieldErrorf(models.CodeUnprocessed, ErrNameBadValue, "value", "not JSON")
	}
	if err := inspect(value, maxDepth); err != nil {
		return models.FieldErrorf(models.CodeUnprocessed, ErrNameBadValue, "value", "%v", err)
	}
	for i := range n.inputs {
		if n.inputs[i].Name == field {
			n.inputs[i] = newInput(field, n.inputs[i].key, value)
			return nil
		}
	}
	return models.FieldErrorf(models.CodeUnprocessed, ErrNameUnknownField, "field", "%s has no field %q; it has %s", n.describe(), shorten(field), n.fieldNames())
}

// put sets an input, adding it when it is absent.
func (n *Node) put(field string, value json.RawMessage) {
	for i := range n.inputs {
		if n.inputs[i].Name == field {
			n.inputs[i] = newInput(field, n.inputs[i].key, value)
			return
		}
	}
	n.inputs = append(n.inputs, newInput(field, quote(field), value))
}

func (n *Node) fieldNames() string {
	const most = 20
	if len(n.inputs) == 0 {
		return "none"
	}
	names := make([]string, 0, most+1)
	for i, in := range n.inputs {
		if i == most {
			names = append(names, "…")
			break
		}
		names = append(names, shorten(in.Name))
	}
	return strings.Join(names, ", ")
}
