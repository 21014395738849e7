package workflows

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"comfyfleet/models"
)

// Limits of one graph.
const (
	// MaxBytes bounds a graph as sent. The largest that people share are a few hundred kB.
	MaxBytes = 4 << 20
	// MaxNodes bounds what Check and a page of the dashboard have to walk; an engine's progress messages are O(nodes).
	MaxNodes = 5000
	// maxDepth bounds nested values; widgets nest a few levels.
	maxDepth = 32
	// maxName bounds node ids, classes and input names in bytes.
	maxName = 200
)

// Parse reads an API-format graph, bare or wrapped as POST /prompt takes it ({"prompt": {…}}). It checks form only:
// whether the nodes exist and fit together is Check's business. The graph keeps parts of raw.
func Parse(raw []byte) (*Graph, error) {
	if len(raw) > MaxBytes {
		return nil, unprocessable(ErrNameTooLarge, "the graph is %d bytes; the limit is %d", len(raw), MaxBytes)
	}
	raw = bytes.TrimSpace(raw)
	if err := validJSON(raw); err != nil {
		return nil, err
	}
	if raw[0] != '{' {
		return nil, malformed("it must be an object of nodes, id → {class_type, inputs}")
	}
	// A node has some hundred bytes. Growing a list of many nodes step by step would copy it several times.
	top, err := appendMembers(make([]member, 0, 8+len(raw)/256), raw, nil)
	if err != nil {
		return nil, malformed("%v", err)
	}
	if editorFormat(top) {
		return nil, unprocessable(ErrNameEditorFormat,
			"this is the editor's file, which an engine cannot run: in ComfyUI enable Dev mode options, then Workflow → Export (API)")
	}
	if top, err = unwrap(top); err != nil {
		return nil, err
	}
	if len(top) == 0 {
		return nil, unprocessable(ErrNameEmpty, "the graph has no nodes")
	}
	if len(top) > MaxNodes {
		return nil, unprocessable(ErrNameTooLarge, "the graph has %d nodes; the limit is %d", len(top), MaxNodes)
	}
	g := &Graph{size: len(raw), nodes: make([]*Node, 0, len(top)), byID: make(map[string]*Node, len(top))}
	p := &parser{names: make(map[string]string, 64)}
	for _, m := range top {
		n, err := p.node(m)
		if err != nil {
			return nil, err
		}
		g.nodes = append(g.nodes, n)
		g.byID[n.ID] = n
	}
	return g, nil
}

func malformed(format string, args ...any) *models.Error {
	e := unprocessable(ErrNameMalformed, format, args...)
	e.Detail = "this is not an API-format graph: " + e.Detail
	return e
}

func validJSON(raw []byte) error {
	if len(raw) == 0 {
		return unprocessable(ErrNameEmpty, "the graph is empty")
	}
	if !utf8.Valid(raw) {
		return malformed("it is not UTF-8")
	}
	if ValidJSON(raw) || json.Valid(raw) { // the second for what is nested too deep for the first
		return nil
	}
	var v json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(raw, &v); errors.As(err, &syntax) {
		line := 1 + bytes.Count(raw[:min(int(syntax.Offset), len(raw))], []byte("\n"))
		return malformed("not JSON, line %d: %v", line, syntax)
	}
	return malformed("not JSON")
}

// editorFormat recognises what the editor saves: a list of nodes with positions and a list of links.
func editorFormat(top []member) bool {
	for _, m := range top {
		if m.name == "nodes" && m.value[0] == '[' {
			return true
		}
	}
	return false
}

// unwrap takes the graph out of a body of POST /prompt. A node that happens to be called "prompt" has a class_type.
func unwrap(top []member) ([]member, error) {
	for _, m := range top {
		if m.name != "prompt" || m.value[0] != '{' {
			continue
		}
		inner, err := members(m.value)
		if err != nil {
			return nil, malformed("%v", err)
		}
		if editorFormat(inner) || has(inner, "class_type") {
			return top, nil
		}
		return inner, nil
	}
	return top, nil
}

func has(list []member, name string) bool {
	for _, m := range list {
		if m.name == name {
			return true
		}
	}
	return false
}

// parser reads nodes one after the other. What one node needs for a moment only the next one uses again.
type parser struct {
	names  map[string]string
	fields []member
	inside []member // of inputs or _meta
}

func (p *parser) node(m member) (*Node, error) {
	if err := checkID(m.name); err != nil {
		return nil, err
	}
	if m.value[0] != '{' {
		return nil, malformed("node %q is not an object", shorten(m.name))
	}
	var err error
	if p.fields, err = appendMembers(p.fields, m.value, p.names); err != nil {
		return nil, malformed("node %q: %v", shorten(m.name), err)
	}
	n := &Node{ID: m.name, key: m.key, members: slices.Clone(p.fields)}
	hasInputs := false
	for _, f := range n.members {
		if f.name == "inputs" && f.value[0] != '{' {
			return nil, malformed("the inputs of node %q are not an object", shorten(n.ID))
		}
		if err := p.field(f.value); err != nil {
			return nil, malformed("node %q: %v", shorten(n.ID), err)
		}
		switch f.name {
		case "class_type":
			if f.value[0] == '"' {
				n.Class = intern(p.names, f.value)
			}
		case "_meta":
			n.Title = p.title()
		case "inputs":
			hasInputs = true
			if n.inputs, err = p.inputs(n.ID); err != nil {
				return nil, err
			}
		}
	}
	if n.Class == "" || len(n.Class) > maxName {
		return nil, malformed("node %q has no class_type, or one that is not a short text", shorten(n.ID))
	}
	if !hasInputs {
		return nil, malformed("%s has no inputs; an empty object is enough", n.describe())
	}
	return n, nil
}

// field inspects a field of a node, and leaves the members of an object in inside.
func (p *parser) field(value json.RawMessage) (err error) {
	p.inside = p.inside[:0]
	if value[0] != '{' {
		return inspect(value, maxDepth)
	}
	if p.inside, err = appendMembers(p.inside, value, p.names); err != nil {
		return err
	}
	for _, m := range p.inside {
		if err := inspect(m.value, maxDepth-1); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) inputs(id string) ([]Input, error) {
	inputs := make([]Input, 0, len(p.inside))
	for _, m := range p.inside {
		if len(m.name) > maxName {
			return nil, malformed("node %q has an input with a name of %d bytes", shorten(id), len(m.name))
		}
		inputs = append(inputs, newInput(m.name, m.key, m.value))
	}
	return inputs, nil
}

func (p *parser) title() string {
	for _, m := range p.inside {
		if m.name == "title" {
			return unquoted(m.value)
		}
	}
	return ""
}

// checkID refuses ids that could be mistaken for something else where they are shown or become part of a file name
// (text_output_<node>.txt). The editor's ids are numbers, and numbers joined by colons for subgraphs.
func checkID(id string) error {
	if id == "" || len(id) > maxName {
		return malformed("a node id must have 1 to %d bytes", maxName)
	}
	if strings.ContainsAny(id, `/\`) || strings.ContainsFunc(id, unicode.IsControl) {
		return malformed("the node id %q has a slash or a control character", shorten(id))
	}
	return nil
}
