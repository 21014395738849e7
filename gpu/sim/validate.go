package sim

import (
	"fmt"
	"slices"
	"strings"
)

// fault reports as ComfyUI words them; the JSON names are its own.

// promptError is the first error of a refused prompt.
type promptError struct {
	Type      string `json:"type"`
	Message   string `json:"message"`
	Details   string `json:"details"`
	ExtraInfo any    `json:"extra_info"`
}

// nodeErrors are the errors of one node.
type nodeErrors struct {
	Errors    []promptError `json:"errors"`
	Dependent []string      `json:"dependent_outputs"`
	Class     string        `json:"class_type"`
}

// verdict is what validation says of a prompt. Problem nil means that outputs can run; errors may still name others.
type verdict struct {
	problem *promptError
	outputs []string
	errors  ordered // node id → *nodeErrors
}

func refuse(kind, message, details string, extra any) verdict {
	if extra == nil {
		extra = map[string]any{}
	}
	return verdict{problem: &promptError{kind, message, details, extra}, errors: ordered{}}
}

// checked is the memo of one node: valid, or the reasons.
type checked struct {
	valid   bool
	reasons []promptError
}

// exception is a Python exception inside validation.
type exception struct{ kind, text, line string }

func (e *exception) Error() string { return e.kind + ": " + e.text }

// validation is one run of validate_prompt.
type validation struct {
	s       *Server
	g       *graph
	done    map[string]*checked
	order   []string // in the order of done, for stable answers
	path    []string // being visited
	literal map[string]map[string]any
}

// validate checks a graph as ComfyUI does: class names of all nodes, everything else of what outputs need. targets limits
// the outputs, nil means all. The returned literals are the coerced values of every checked node.
func (s *Server) validate(g *graph, targets []string) (verdict, map[string]map[string]any) {
	var outputs []*node
	for _, n := range g.nodes {
		title := "ID #" + n.id
		if n.hasTitle {
			title = n.title
		}
		extra := map[string]any{"node_id": n.id, "class_type": nil, "node_title": nil}
		if n.hasTitle {
			extra["node_title"] = n.title
		}
		if !n.hasClass {
			return refuse("missing_node_type", "Node '"+title+"' has no class_type. The workflow may be corrupted or a custom node is missing.",
				"Node ID '#"+n.id+"'", extra), nil
		}
		extra["class_type"] = n.class
		c := s.classes[n.class]
		if c == nil {
			if !n.hasTitle {
				title, extra["node_title"] = n.class, n.class
			}
			return refuse("missing_node_type", "Node '"+title+"' not found. The custom node may not be installed.",
				"Node ID '#"+n.id+"'", extra), nil
		}
		if c.OutputNode && (targets == nil || slices.Contains(targets, n.id)) {
			outputs = append(outputs, n)
		}
	}
	if len(outputs) == 0 {
		return refuse("prompt_no_outputs", "Prompt has no outputs", "", nil), nil
	}
	v := &validation{s: s, g: g, done: map[string]*checked{}, literal: map[string]map[string]any{}}
	return v.outputs(outputs), v.literal
}

// outputs validates each output with all that it needs.
func (v *validation) outputs(list []*node) verdict {
	out := verdict{outputs: []string{}, errors: ordered{}}
	byNode := map[string]*nodeErrors{}
	var texts []string
	for _, o := range list {
		v.path = nil
		c, ex := v.node(o.id)
		if ex != nil {
			c = v.remember(o.id, &checked{reasons: []promptError{{"exception_during_validation", "Exception when validating node", ex.text,
				map[string]any{"exception_type": ex.kind, "traceback": []string{ex.line}}}}})
		}
		if c.valid {
			out.outputs = append(out.outputs, o.id)
			continue
		}
		for _, r := range c.reasons {
			texts = append(texts, r.Message+": "+r.Details)
		}
		for _, id := range v.order {
			if c := v.done[id]; c.valid || len(c.reasons) == 0 {
				continue
			}
			if byNode[id] == nil {
				byNode[id] = &nodeErrors{Errors: v.done[id].reasons, Dependent: []string{}, Class: v.g.byID[id].class}
				out.errors = append(out.errors, field{id, byNode[id]})
			}
			byNode[id].Dependent = append(byNode[id].Dependent, o.id)
		}
	}
	if len(out.outputs) == 0 {
		out.problem = &promptError{"prompt_outputs_failed_validation", "Prompt outputs failed validation", strings.Join(texts, "\n"), map[string]any{}}
	}
	return out
}

func (v *validation) remember(id string, c *checked) *checked {
	if v.done[id] == nil {
		v.order = append(v.order, id)
	}
	v.done[id] = c
	return c
}

// node validates one node after everything that it is linked to.
func (v *validation) node(id string) (*checked, *exception) {
	if c := v.done[id]; c != nil {
		return c, nil
	}
	if i := slices.Index(v.path, id); i >= 0 {
		return v.cycle(v.path[i:]), nil
	}
	n := v.g.byID[id]
	if !n.hasInputs {
		return nil, &exception{"KeyError", "'inputs'", "  inputs = prompt[unique_id]['inputs']\n"}
	}
	v.path = append(v.path, id)
	defer func() { v.path = v.path[:len(v.path)-1] }()

	class := v.s.classes[n.class]
	c := &checked{valid: true}
	values := map[string]any{}
	v.literal[id] = values
	for _, in := range class.Required {
		if ex := v.input(n, class, in, true, c, values); ex != nil {
			return nil, ex
		}
	}
	for _, in := range class.Optional {
		if ex := v.input(n, class, in, false, c, values); ex != nil {
			return nil, ex
		}
	}
	if done := v.done[id]; done != nil {
		return done, nil // found to be part of a cycle meanwhile
	}
	v.custom(class, c, values)
	c.valid = c.valid && len(c.reasons) == 0
	return v.remember(id, c), nil
}

// input validates one input and stores its coerced value.
func (v *validation) input(n *node, class *Class, in Input, required bool, c *checked, values map[string]any) *exception {
	given, ok := n.input(in.Name)
	if !ok {
		if required {
			c.reasons = append(c.reasons, promptError{"required_input_missing", "Required input is missing", in.Name, map[string]any{"input_name": in.Name}})
		}
		return nil
	}
	if given.link != nil {
		return v.link(in, given, c)
	}
	value, reason := v.s.literal(in, given.value, class.check != nil && slices.Contains(class.check.fields, in.Name))
	if reason != nil {
		c.reasons = append(c.reasons, *reason)
		return nil
	}
	values[in.Name] = value
	return nil
}

// link validates a link: its shape, that its types fit, and the node behind it.
func (v *validation) link(in Input, given inputValue, c *checked) *exception {
	config := in.config(v.s.options(in))
	pair := given.value.([]any)
	if len(pair) != 2 {
		c.reasons = append(c.reasons, promptError{"bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", in.Name,
			map[string]any{"input_name": in.Name, "input_config": config, "received_value": pair}})
		return nil
	}
	from := v.g.byID[given.link.node]
	if from == nil {
		return &exception{"KeyError", pyRepr(pair[0]), "  o_class_type = prompt[o_id]['class_type']\n"}
	}
	slots := v.s.classes[from.class].Outputs
	if given.link.slot < 0 || given.link.slot >= len(slots) {
		return &exception{"IndexError", "tuple index out of range", "  received_type = r[val[1]]\n"}
	}
	if received := slots[given.link.slot].Type; !fits(received, in.Type) {
		c.reasons = append(c.reasons, promptError{"return_type_mismatch", "Return type mismatch between linked nodes",
			fmt.Sprintf("%s, received_type(%s) mismatch input_type(%s)", in.Name, received, in.Type),
			map[string]any{"input_name": in.Name, "input_config": config, "received_type": received, "linked_node": pair}})
		return nil
	}
	inner, ex := v.node(from.id)
	if ex != nil {
		v.remember(from.id, &checked{reasons: []promptError{{"exception_during_inner_validation", "Exception when validating inner node", ex.text,
			map[string]any{"input_name": in.Name, "input_config": config, "exception_message": ex.text, "exception_type": ex.kind,
				"traceback": []string{ex.line}, "linked_node": pair}}}})
		c.valid = false
		return nil
	}
	c.valid = c.valid && inner.valid
	return nil
}

// custom runs the class's own validation.
func (v *validation) custom(class *Class, c *checked, values map[string]any) {
	if class.check == nil {
		return
	}
	for _, name := range class.check.fields {
		value, ok := values[name]
		if !ok {
			continue
		}
		if wrong := class.check.valid(v.s, name, value); wrong != "" {
			c.reasons = append(c.reasons, promptError{"custom_validation_failed", "Custom validation failed for node", name + " - " + wrong,
				map[string]any{"input_name": name}})
		}
	}
}

// cycle marks every node of a cycle as invalid.
func (v *validation) cycle(ids []string) *checked {
	ids = slices.Clone(ids)
	var names []string
	for _, id := range append(slices.Clone(ids), ids[0]) {
		names = append(names, fmt.Sprintf("%s (%s)", id, v.g.byID[id].class))
	}
	for _, id := range ids {
		v.remember(id, &checked{reasons: []promptError{{"dependency_cycle", "Dependency cycle detected", strings.Join(names, " -> "),
			map[string]any{"node_id": id, "cycle_nodes": ids}}}})
	}
	return v.done[ids[0]]
}

// fits says whether an output type may be linked to an input type. Types may be comma-separated unions.
func fits(received, wanted string) bool {
	if received == wanted || received == "*" || wanted == "*" {
		return true
	}
	have, want := strings.Split(received, ","), strings.Split(wanted, ",")
	return !slices.ContainsFunc(have, func(t string) bool { return !slices.Contains(want, t) })
}
