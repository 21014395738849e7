package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
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
	raw   []byte // as sent, without white space; never written to
}

// Node is one node of a graph. Its strings are the client's and never become paths.
type Node struct {
	ID    string
	Class string // class_type
	Title string // _meta.title, "" for none

	index    int // in the graph's list
	inputs   []Input
	key, raw []byte // as sent: the id with its quotes, and the node
	inputsAt span   // in raw
	// changed says that inputs are not what raw has, own that no other graph shares them.
	changed, own bool
}

// Input is one input of a node: a literal, or a link to another node's output.
type Input struct {
	Name  string
	Value json.RawMessage // must not be written to

	link *Link // nil for none
}

func newInput(name string, value json.RawMessage) Input {
	in := Input{Name: name, Value: value}
	if link, ok := parseLink(value); ok {
		in.link = &link
	}
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
func (in Input) Link() (Link, bool) {
	if in.link == nil {
		return Link{}, false
	}
	return *in.link, true
}

// parseLink reads a list of a string and a whole number. The link keeps a part of value.
func parseLink(value json.RawMessage) (Link, bool) {
	if len(value) == 0 || value[0] != '[' {
		return Link{}, false
	}
	start := skipSpace(value, 1)
	if start >= len(value) || value[start] != '"' {
		return Link{}, false
	}
	end := stringEnd(value, start)
	comma := skipSpace(value, end)
	if comma >= len(value) || value[comma] != ',' {
		return Link{}, false
	}
	number := bytes.TrimSpace(value[comma+1 : len(value)-1])
	if len(number) == 1 && '0' <= number[0] && number[0] <= '9' {
		return Link{Node: viewed(value[start:end]), Slot: int(number[0] - '0')}, true
	}
	slot, err := strconv.ParseFloat(string(number), 64) // ComfyUI takes 0.0 for 0; more than a number is an error
	if err != nil || slot != float64(int(slot)) || slot < 0 {
		return Link{}, false
	}
	return Link{Node: viewed(value[start:end]), Slot: int(slot)}, true
}

func (in Input) isArray() bool { return len(in.Value) > 0 && in.Value[0] == '[' }

// JSON renders the graph: the client's order, keys and values, without the white space between them. The answer must not
// be written to.
func (g *Graph) JSON() []byte {
	if !slices.ContainsFunc(g.nodes, func(n *Node) bool { return n.changed }) {
		return g.raw
	}
	var out bytes.Buffer
	out.Grow(len(g.raw) + len(g.raw)/8)
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
	if !n.changed {
		out.Write(n.raw)
		return
	}
	out.Write(n.raw[:n.inputsAt.start])
	out.WriteByte('{')
	for i, in := range n.inputs {
		if i > 0 {
			out.WriteByte(',')
		}
		out.Write(quote(in.Name))
		out.WriteByte(':')
		out.Write(in.Value)
	}
	out.WriteByte('}')
	out.Write(n.raw[n.inputsAt.end:])
}

// Clone is a copy that can be changed without touching g. Inputs are shared until one of them is replaced.
func (g *Graph) Clone() *Graph {
	c := &Graph{raw: g.raw, nodes: make([]*Node, len(g.nodes)), byID: make(map[string]*Node, len(g.nodes))}
	twins := make([]Node, len(g.nodes))
	for i, n := range g.nodes {
		if n.own { // looked at before written: a graph that nobody changes may be cloned by several at once
			n.own = false
		}
		twins[i] = *n
		c.nodes[i], c.byID[n.ID] = &twins[i], &twins[i]
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
	err := inspect(value)
	if errors.Is(err, errNotJSON) || !utf8.Valid(value) {
		return models.FieldErrorf(models.CodeUnprocessed, ErrNameBadValue, "value", "not JSON")
	}
	if err != nil {
		return models.FieldErrorf(models.CodeUnprocessed, ErrNameBadValue, "value", "%v", err)
	}
	if i := n.find(field); i >= 0 {
		n.replace(i, value)
		return nil
	}
	return models.FieldErrorf(models.CodeUnprocessed, ErrNameUnknownField, "field", "%s has no field %q; it has %s", n.describe(), shorten(field), n.fieldNames())
}

// find is the index of an input, -1 for none.
func (n *Node) find(field string) int {
	return slices.IndexFunc(n.inputs, func(in Input) bool { return in.Name == field })
}

// put sets an input, adding it when it is absent.
func (n *Node) put(field string, value json.RawMessage) {
	if i := n.find(field); i >= 0 {
		n.replace(i, value)
		return
	}
	n.detach()
	n.inputs = append(n.inputs, newInput(field, value))
}

func (n *Node) replace(i int, value json.RawMessage) {
	n.detach()
	n.inputs[i] = newInput(n.inputs[i].Name, value)
}

// detach gives the node inputs that it may change.
func (n *Node) detach() {
	if !n.own {
		n.inputs, n.own = slices.Clone(n.inputs), true
	}
	n.changed = true
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
