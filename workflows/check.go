package workflows

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"comfyfleet/models"
)

// maxNodeErrors bounds how many nodes one refusal names.
const maxNodeErrors = 50

// nodeError is one entry of node_errors in the shape of ComfyUI's own validation.
type nodeError struct {
	Type      string         `json:"type"`
	Message   string         `json:"message"`
	Details   string         `json:"details"`
	ExtraInfo map[string]any `json:"extra_info"`
}

// nodeErrors is what node_errors says of one node.
type nodeErrors struct {
	Errors    []nodeError `json:"errors"`
	Dependent []string    `json:"dependent_outputs"`
	Class     string      `json:"class_type"`
}

// findings collects what is wrong with a graph, in the order of its nodes.
type findings struct {
	graph  *Graph
	byNode map[string][]nodeError
	nodes  []*Node
}

func (f *findings) add(n *Node, e nodeError) {
	if f.byNode[n.ID] == nil {
		f.nodes = append(f.nodes, n)
	}
	f.byNode[n.ID] = append(f.byNode[n.ID], e)
}

// Check holds a graph against node definitions: classes, required inputs, types, ranges, choices and links, in the way
// that ComfyUI's validation does, so that a wrong graph is refused before it is queued. It is stricter in one thing: one
// output that cannot run refuses the graph, where ComfyUI silently drops that output. It lets pass what only the worker
// can know: which files it has, and what a custom node's own validation says.
//
// With nil definitions it checks the structure only: links to nodes that are not there, and loops.
func Check(g *Graph, d *Defs) error {
	if d != nil {
		if err := checkClasses(g, d); err != nil {
			return err
		}
	}
	outputs := g.outputs(d)
	f := &findings{graph: g, byNode: map[string][]nodeError{}}
	if len(outputs) == 0 && d == nil {
		outputs = g.nodes // every node feeds another: a loop
	}
	if len(outputs) == 0 {
		return unprocessable(ErrNameNoOutputs, "the graph has no output node, such as SaveImage: running it would produce nothing")
	}
	if loop := g.cycle(outputs); loop != nil {
		f.addCycle(loop)
		return f.err(outputs)
	}
	reached := g.marks()
	g.walk(outputs, func(n *Node) { reached[n.index] = true })
	for _, n := range g.nodes {
		if !reached[n.index] {
			continue // ComfyUI neither validates nor runs it
		}
		f.checkNode(n, d)
		if len(f.nodes) == maxNodeErrors {
			break
		}
	}
	return f.err(outputs)
}

// checkClasses refuses classes that no definition names; ComfyUI does so for nodes that would not run, too.
func checkClasses(g *Graph, d *Defs) error {
	f := &findings{graph: g, byNode: map[string][]nodeError{}}
	var names []string
	for _, n := range g.nodes {
		if _, ok := d.Class(n.Class); ok {
			continue
		}
		title := n.Title
		if title == "" {
			title = n.Class
		}
		f.add(n, nodeError{
			Type: ErrNameMissingType, Message: fmt.Sprintf("Node %q not found. The custom node may not be installed.", shorten(title)),
			Details: fmt.Sprintf("Node ID '#%s'", n.ID), ExtraInfo: map[string]any{"node_id": n.ID, "class_type": n.Class, "node_title": title},
		})
		if len(f.nodes) <= 10 {
			names = append(names, n.describe())
		}
		if len(f.nodes) == maxNodeErrors {
			break
		}
	}
	if len(f.nodes) == 0 {
		return nil
	}
	if more := len(f.nodes) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	e := unprocessable(ErrNameMissingType, "no worker has this node class: %s", strings.Join(names, ", "))
	e.NodeErrors = f.json(nil)
	e.Fields = f.fields()
	return e
}

func (f *findings) addCycle(nodes []*Node) {
	const most = 20
	ids := make([]string, 0, len(nodes))
	var text strings.Builder
	for i, n := range append(slices.Clone(nodes), nodes[0]) {
		if i < len(nodes) {
			ids = append(ids, n.ID)
		}
		if i == most {
			text.WriteString(" -> …")
		}
		if i >= most {
			continue
		}
		if i > 0 {
			text.WriteString(" -> ")
		}
		fmt.Fprintf(&text, "%s (%s)", n.ID, n.Class)
	}
	for i, n := range nodes {
		if i == maxNodeErrors {
			break
		}
		f.add(n, nodeError{Type: "dependency_cycle", Message: "Dependency cycle detected", Details: text.String(),
			ExtraInfo: map[string]any{"node_id": n.ID, "cycle_nodes": ids}})
	}
}

// err is the refusal, nil when nothing was found.
func (f *findings) err(outputs []*Node) error {
	if len(f.nodes) == 0 {
		return nil
	}
	const most = 3
	var lines []string
	total := 0
	for _, n := range f.nodes {
		for _, e := range f.byNode[n.ID] {
			if total++; total <= most {
				lines = append(lines, fmt.Sprintf("%s: %s (%s)", n.describe(), lowerFirst(e.Message), e.Details))
			}
		}
	}
	if total > most {
		lines = append(lines, fmt.Sprintf("and %d more", total-most))
	}
	e := unprocessable(ErrNameInvalid, "%s", strings.Join(lines, "; "))
	e.NodeErrors = f.json(outputs)
	e.Fields = f.fields()
	return e
}

func (f *findings) fields() []models.FieldError {
	var list []models.FieldError
	for _, n := range f.nodes {
		for _, e := range f.byNode[n.ID] {
			field := "workflow." + n.ID
			if name, ok := e.ExtraInfo["input_name"].(string); ok {
				field += ".inputs." + name
			}
			list = append(list, models.FieldError{Field: field, Detail: strings.TrimSuffix(e.Message, ".") + ": " + e.Details})
		}
	}
	return list
}

func (f *findings) json(outputs []*Node) []byte {
	all := make(map[string]*nodeErrors, len(f.nodes))
	for _, n := range f.nodes {
		all[n.ID] = &nodeErrors{Errors: f.byNode[n.ID], Dependent: []string{}, Class: n.Class}
	}
	// One walk for each output; bounded, because only a hostile graph has many outputs and an error.
	for _, out := range outputs[:min(len(outputs), maxNodeErrors)] {
		f.graph.walk([]*Node{out}, func(n *Node) {
			if e := all[n.ID]; e != nil {
				e.Dependent = append(e.Dependent, out.ID)
			}
		})
	}
	b, err := json.Marshal(all)
	if err != nil {
		return []byte("{}") // a client's number that Go cannot write back; the text says it all
	}
	return b
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
