package sim

import (
	"fmt"
	"time"
)

// call is one run of a node's function.
type call struct {
	s    *Server
	x    *execution
	node *node
	in   map[string]any // literals and linked values by name; whole lists for InputIsList
}

// result is what a node's function returns.
type result struct {
	values []any // one per slot; a []any each when the class has ListOutput
	ui     ordered
	expand *expansion
}

// give returns values without a ui.
func give(values ...any) (*result, error) { return &result{values: values}, nil }

// raise is a Python exception.
type raise struct {
	kind, text string
	memory     bool // out of memory
}

func (r *raise) Error() string { return r.kind + ": " + r.text }

// message is what execution_error says; out of memory adds an explanation.
func (r *raise) message() string {
	if r.memory {
		return r.text + "\nThis error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
	}
	return r.text + "\n"
}

func (r *raise) traceback() []string {
	return []string{"  File \"comfyfleet/sim/execution.py\", line 1, in execute\n    output_data = get_output_data(node)\n",
		"  File \"comfyfleet/sim/nodes.py\", line 1, in run\n    raise " + r.kind + "\n"}
}

func raisef(kind, format string, args ...any) error {
	return &raise{kind: kind, text: fmt.Sprintf(format, args...)}
}

func outOfMemory() error {
	return &raise{kind: "torch.OutOfMemoryError", text: "CUDA out of memory. Tried to allocate 20.00 GiB.", memory: true}
}

func cudaError() error {
	return raisef("torch.AcceleratorError", "CUDA error: an illegal memory access was encountered")
}

// blocker is ExecutionBlocker: what depends on it does not run. A message is reported once.
type blocker struct{ message string }

// call runs a node over its input lists: shorter lists repeat their last item.
func (x *execution) call(n *node) (out *cached, pending bool, err error) {
	class := x.s.classes[n.class]
	inputs, longest := x.inputs(n, class)
	out = &cached{values: make([][]any, len(class.Outputs))}
	if class.InputIsList {
		whole := map[string]any{}
		for name, list := range inputs {
			whole[name] = list
		}
		pending, err = x.runItem(n, class, whole, out)
		return out, pending, err
	}
	for i := range longest {
		one := map[string]any{}
		for name, list := range inputs {
			if len(list) > 0 {
				one[name] = list[min(i, len(list)-1)]
			}
		}
		if pending, err = x.runItem(n, class, one, out); err != nil || pending {
			return out, pending, err
		}
	}
	return out, false, nil
}

// runItem runs a node for one item of its input lists and appends what it returns.
func (x *execution) runItem(n *node, class *Class, in map[string]any, out *cached) (pending bool, err error) {
	if x.s.interrupt.Swap(false) {
		return false, errInterrupted
	}
	if x.s.cudaBroken() {
		return false, cudaError()
	}
	for _, name := range sortedKeys(in) {
		if b, ok := in[name].(blocker); ok {
			x.block(n, b, out)
			return false, nil
		}
	}
	r, err := class.run(&call{s: x.s, x: x, node: n, in: in})
	if err != nil {
		return false, err
	}
	if r.expand != nil {
		return true, x.expand(n, r.expand)
	}
	for slot := range out.values {
		var v any
		if slot < len(r.values) {
			v = r.values[slot]
		}
		if list, ok := v.([]any); ok && class.ListOutput {
			out.values[slot] = append(out.values[slot], list...)
			continue
		}
		out.values[slot] = append(out.values[slot], v)
	}
	out.ui = mergeUI(out.ui, r.ui)
	return false, nil
}

// block lets a blocker through to what comes after; its message is reported as an error that does not end the run.
func (x *execution) block(n *node, b blocker, out *cached) {
	if b.message != "" && x.item.clientID != "" {
		x.s.send("execution_error", ordered{{"prompt_id", x.item.id}, {"node_id", n.id}, {"node_type", n.class},
			{"executed", append([]string{}, x.executed...)}, {"exception_message", "Execution Blocked: " + b.message},
			{"exception_type", "ExecutionBlocked"}, {"traceback", []string{}}, {"current_inputs", []string{}}, {"current_outputs", []string{}}}, x.item.clientID)
	}
	for slot := range out.values {
		out.values[slot] = append(out.values[slot], blocker{})
	}
}

// inputs are a node's input lists by name, and the length of the longest.
func (x *execution) inputs(n *node, class *Class) (map[string][]any, int) {
	lists, longest := map[string][]any{}, 1
	for _, in := range append(append([]Input(nil), class.Required...), class.Optional...) {
		given, ok := n.input(in.Name)
		if !ok {
			continue
		}
		if given.link == nil {
			value, ok := x.literals[n.id][in.Name]
			if !ok {
				value = given.value
			}
			lists[in.Name] = []any{value}
			continue
		}
		if from := x.results[given.link.node]; from != nil && given.link.slot < len(from.values) {
			lists[in.Name] = from.values[given.link.slot]
			longest = max(longest, len(from.values[given.link.slot]))
		}
	}
	return lists, longest
}

// mergeUI appends the lists of each key.
func mergeUI(have, more ordered) ordered {
next:
	for _, m := range more {
		for i := range have {
			if have[i].key == m.key {
				have[i].value = append(have[i].value.([]any), m.value.([]any)...)
				continue next
			}
		}
		have = append(have, m)
	}
	return have
}

// shownInputs are a node's inputs as an error report shows them: large values by a description.
func (x *execution) shownInputs(n *node) map[string]any {
	lists, _ := x.inputs(n, x.s.classes[n.class])
	out := map[string]any{}
	for name, list := range lists {
		shown := make([]any, len(list))
		for i, v := range list {
			switch v.(type) {
			case nil, bool, string, int64, uint64, float64:
				shown[i] = v
			default:
				shown[i] = fmt.Sprint(v)
			}
		}
		out[name] = shown
	}
	return out
}

// step reports progress: it hears an interrupt, lets step faults act, and sends progress_state, progress and the preview
// in the order that the client's abilities ask for. preview may be nil and is called only when somebody listens.
func (c *call) step(value, total int, preview func() []byte) error {
	if c.s.interrupt.Swap(false) {
		return errInterrupted
	}
	if err := c.s.stepFault(); err != nil {
		return err
	}
	to := c.x.item.clientID
	c.x.progress.step(c.node, float64(value), float64(total))
	c.x.sendProgress()
	var image []byte
	listens, metadata := c.s.hub.listens(to)
	if preview != nil && listens {
		image = preview()
	}
	if image != nil && metadata {
		c.s.hub.send(c.s.ctx, event{binary: metadataFrame(c.node, c.x.item.id, image), to: to})
	}
	c.s.send("progress", ordered{{"value", value}, {"max", total}, {"prompt_id", c.x.item.id}, {"node", c.node.id}}, to)
	if image != nil && !metadata {
		c.s.hub.send(c.s.ctx, event{binary: legacyFrame(image), to: to})
	}
	return nil
}

// steps takes n steps of d each, with previews when they are wanted.
func (c *call) steps(from, n, total int, d time.Duration, preview func(done int) []byte) error {
	for i := from + 1; i <= n; i++ {
		if err := c.s.block(c.s.scaled(d)); err != nil {
			return err
		}
		var frame func() []byte
		if preview != nil {
			frame = func() []byte { return preview(i) }
		}
		if err := c.step(i, total, frame); err != nil {
			return err
		}
	}
	return nil
}

// wantsPreviews says whether samplers of this prompt send previews.
func (c *call) wantsPreviews() bool {
	switch c.x.item.preview {
	case "", "default":
		return c.s.opts.Previews != "none"
	case "none":
		return false
	}
	return true
}

func (c *call) str(name string) string { v, _ := c.in[name].(string); return v }

func (c *call) flag(name string) bool { v, _ := c.in[name].(bool); return v }

func (c *call) int(name string) int {
	switch v := c.in[name].(type) {
	case int64:
		return int(v)
	case float64:
		return int(v)
	}
	return 0
}

func (c *call) float(name string) float64 {
	switch v := c.in[name].(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

func (c *call) seed(name string) uint64 {
	switch v := c.in[name].(type) {
	case int64:
		return uint64(v)
	case uint64:
		return v
	}
	return 0
}
