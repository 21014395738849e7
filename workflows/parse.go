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
// whether the nodes exist and fit together is Check's business. The graph keeps nothing of raw.
func Parse(raw []byte) (*Graph, error) {
	if len(raw) > MaxBytes {
		return nil, unprocessable(ErrNameTooLarge, "the graph is %d bytes; the limit is %d", len(raw), MaxBytes)
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, unprocessable(ErrNameEmpty, "the graph is empty")
	}
	if !utf8.Valid(raw) {
		return nil, malformed("it is not UTF-8")
	}
	s := scanners.Get().(*scanner)
	defer s.release()
	members, err := s.scan(raw)
	doc := raw
	if err == nil && s.spaced {
		var compact bytes.Buffer
		compact.Grow(len(raw))
		if err = json.Compact(&compact, raw); err == nil {
			doc = compact.Bytes()
			members, err = s.scan(doc)
		}
	} else {
		doc = bytes.Clone(raw)
	}
	switch {
	case errors.Is(err, errNotJSON):
		return nil, notJSON(raw)
	case err != nil:
		return nil, malformed("%v", err)
	case doc[0] != '{':
		return nil, malformed("it must be an object of nodes, id → {class_type, inputs}")
	}
	p := &parser{scanner: s, doc: doc, plain: bytes.IndexByte(doc, '\\') < 0}
	return p.graph(span{0, len(doc)}, members)
}

func malformed(format string, args ...any) *models.Error {
	e := unprocessable(ErrNameMalformed, format, args...)
	e.Detail = "this is not an API-format graph: " + e.Detail
	return e
}

// notJSON says where a document stops being JSON.
func notJSON(raw []byte) error {
	var v json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(raw, &v); errors.As(err, &syntax) {
		line := 1 + bytes.Count(raw[:min(int(syntax.Offset), len(raw))], []byte("\n"))
		return malformed("not JSON, line %d: %v", line, syntax)
	}
	return malformed("not JSON")
}

// parser makes a graph of what a scanner found. The parts of the graph are parts of doc, which nobody writes to.
type parser struct {
	*scanner
	doc   []byte
	plain bool   // there is no escape in doc
	links []Link // room for the links to come
}

// graph makes the graph whose nodes are the members of the object at the span.
func (p *parser) graph(at, members span) (*Graph, error) {
	top := p.list(members)
	if p.editorFormat(top) {
		return nil, unprocessable(ErrNameEditorFormat,
			"this is the editor's file, which an engine cannot run: in ComfyUI enable Dev mode options, then Workflow → Export (API)")
	}
	if inner, ok := p.wrapped(top); ok {
		at, top = inner.value, p.list(inner.members)
	}
	if len(top) == 0 {
		return nil, unprocessable(ErrNameEmpty, "the graph has no nodes")
	}
	if len(top) > MaxNodes {
		return nil, unprocessable(ErrNameTooLarge, "the graph has %d nodes; the limit is %d", len(top), MaxNodes)
	}
	g := &Graph{raw: p.bytes(at), nodes: make([]*Node, len(top)), byID: make(map[string]*Node, len(top))}
	nodes := make([]Node, len(top))
	inputs := make([]Input, 0, p.most(top)) // one allocation for all
	for i, m := range top {
		n := &nodes[i]
		var err error
		if inputs, err = p.node(n, m, inputs); err != nil {
			return nil, err
		}
		n.index = i
		g.nodes[i], g.byID[n.ID] = n, n
	}
	return g, nil
}

// most is about how many inputs the nodes have, and not fewer.
func (p *parser) most(nodes []item) (n int) {
	for _, m := range nodes {
		for _, f := range p.list(m.members) {
			n += f.members.end - f.members.start
		}
	}
	return n
}

func (p *parser) list(members span) []item { return p.items[members.start:members.end] }

// bytes is a part of the document that nothing can be appended to in place.
func (p *parser) bytes(at span) []byte { return p.doc[at.start:at.end:at.end] }

func (p *parser) starts(m item, c byte) bool { return p.doc[m.value.start] == c }

// text is a member's value, "" when it is no string.
func (p *parser) text(m item) string {
	if !p.starts(m, '"') {
		return ""
	}
	return p.string(m.value)
}

func (p *parser) key(m item) string { return p.string(m.key) }

// string is what a quoted part of the document means; it is a part of the document if it can.
func (p *parser) string(at span) string {
	if p.plain {
		return view(p.doc[at.start+1 : at.end-1])
	}
	return viewed(p.bytes(at))
}

// editorFormat recognises what the editor saves: a list of nodes with positions and a list of links.
func (p *parser) editorFormat(top []item) bool {
	return slices.ContainsFunc(top, func(m item) bool { return p.key(m) == "nodes" && p.starts(m, '[') })
}

// wrapped finds the graph in a body of POST /prompt. A node that happens to be called "prompt" has a class_type.
func (p *parser) wrapped(top []item) (graph item, ok bool) {
	for _, m := range top {
		if p.key(m) != "prompt" || !p.starts(m, '{') {
			continue
		}
		inner := p.list(m.members)
		node := slices.ContainsFunc(inner, func(m item) bool { return p.key(m) == "class_type" })
		return m, !node && !p.editorFormat(inner)
	}
	return item{}, false
}

// node fills n from a member of the graph. Its inputs go to the end of inputs.
func (p *parser) node(n *Node, m item, inputs []Input) ([]Input, error) {
	n.ID, n.key, n.raw = p.key(m), p.bytes(m.key), p.bytes(m.value)
	if err := checkID(n.ID); err != nil {
		return nil, err
	}
	if !p.starts(m, '{') {
		return nil, malformed("node %q is not an object", shorten(n.ID))
	}
	hasInputs := false
	for _, f := range p.list(m.members) {
		switch p.key(f) {
		case "class_type":
			n.Class = p.text(f)
		case "_meta":
			n.Title = p.title(f)
		case "inputs":
			if !p.starts(f, '{') {
				return nil, malformed("the inputs of node %q are not an object", shorten(n.ID))
			}
			hasInputs = true
			n.inputsAt = span{f.value.start - m.value.start, f.value.end - m.value.start}
			first := len(inputs)
			for _, in := range p.list(f.members) {
				name := p.key(in)
				if len(name) > maxName {
					return nil, malformed("node %q has an input with a name of %d bytes", shorten(n.ID), len(name))
				}
				inputs = append(inputs, p.input(name, p.bytes(in.value)))
			}
			n.inputs = inputs[first:len(inputs):len(inputs)]
		}
	}
	if n.Class == "" || len(n.Class) > maxName {
		return nil, malformed("node %q has no class_type, or one that is not a short text", shorten(n.ID))
	}
	if !hasInputs {
		return nil, malformed("%s has no inputs; an empty object is enough", n.describe())
	}
	return inputs, nil
}

// input reads a link once: every walk through the graph asks for it.
func (p *parser) input(name string, value json.RawMessage) Input {
	in := Input{Name: name, Value: value}
	link, ok := parseLink(value)
	if !ok {
		return in
	}
	if len(p.links) == cap(p.links) { // not grown: what was handed out stays where it is
		p.links = make([]Link, 0, 64)
	}
	p.links = append(p.links, link)
	in.link = &p.links[len(p.links)-1]
	return in
}

func (p *parser) title(meta item) string {
	for _, m := range p.list(meta.members) {
		if p.key(m) == "title" {
			return p.text(m)
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
