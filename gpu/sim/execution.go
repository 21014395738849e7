package sim

import (
	"errors"
	"fmt"
	"time"
)

// execution is one prompt on its way through the worker.
type execution struct {
	s        *Server
	item     *item
	nodes    map[string]*node // with what expansions added
	literals map[string]map[string]any
	keys     map[string]string
	results  map[string]*cached // of this prompt
	executed []string
	expanded map[string]*expansion
	plan     *plan
	progress *progress
	entry    *entry
	outputs  map[string]bool
}

func (s *Server) newExecution(it *item) *execution {
	x := &execution{s: s, item: it, nodes: map[string]*node{}, literals: it.literals, keys: map[string]string{}, results: map[string]*cached{},
		expanded: map[string]*expansion{}, plan: newPlan(), progress: newProgress(it.id), outputs: map[string]bool{},
		entry: &entry{item: it, outputs: ordered{}, meta: ordered{}, messages: []message{}}}
	for _, n := range it.graph.nodes {
		x.nodes[n.id] = n
	}
	return x
}

// execute runs a prompt to its end. An error means that the worker is gone and the prompt has no end.
func (s *Server) execute(it *item) (*entry, error) {
	s.interrupt.Store(false) // an interrupt that came earlier is lost, as in ComfyUI
	s.log.info("got prompt")
	x := s.newExecution(it)
	if err := x.say("start", "execution_start", ordered{{"prompt_id", it.id}}, JournalEntry{}); err != nil {
		return nil, err
	}
	x.entry.started = stamp(x.entry.messages[0])
	if err := x.lookUpCache(); err != nil {
		return nil, err
	}
	for _, id := range it.outputs {
		x.plan.add(id, x.links, x.isCached)
	}
	err := x.run()
	x.entry.ended = time.Now().UnixMilli()
	return x.entry, err
}

// lookUpCache finds the nodes whose outputs are known and tells which.
func (x *execution) lookUpCache() error {
	x.s.cache.begin()
	known := []string{}
	for _, n := range x.item.graph.nodes {
		if x.literals[n.id] == nil {
			continue // not needed by any output, hence not validated
		}
		if c := x.s.cache.get(x.signature(n.id)); c != nil {
			x.results[n.id] = c
			known = append(known, n.id)
		}
	}
	return x.say("cached", "execution_cached", ordered{{"nodes", known}, {"prompt_id", x.item.id}}, JournalEntry{Nodes: known})
}

func (x *execution) isCached(id string) bool { return x.results[id] != nil }

// links are the nodes that a node's inputs come from.
func (x *execution) links(id string) []string {
	n := x.nodes[id]
	class := x.s.classes[n.class]
	var from []string
	for _, in := range n.inputs {
		if _, _, ok := class.input(in.name); ok && in.link != nil {
			from = append(from, in.link.node)
		}
	}
	return from
}

// run executes nodes until none is left, one raises, or an interrupt is heard.
func (x *execution) run() error {
	isOutput := func(id string) bool { return x.s.classes[x.nodes[id].class].OutputNode }
	for {
		id := x.plan.next(isOutput)
		if id == "" {
			return x.succeed()
		}
		pending, err := x.node(x.nodes[id])
		switch {
		case err == nil && pending:
			continue // it waits for what it expanded into
		case err == nil:
			x.plan.done(id)
		case errors.Is(err, errClosed), errors.Is(err, errThreadDied):
			return err
		default:
			return x.fail(x.nodes[id], err)
		}
	}
}

func (x *execution) succeed() error {
	x.entry.success = true
	return x.say("end", "execution_success", ordered{{"prompt_id", x.item.id}}, JournalEntry{})
}

// node executes one node. pending means that it expanded and comes again when its parts are done.
func (x *execution) node(n *node) (pending bool, err error) {
	if done := x.results[n.id]; done != nil { // a cached output
		if done.ui != nil {
			x.keepUI(n, done.ui)
		}
		x.progress.finish(n)
		x.sendProgress()
		return false, nil
	}
	var out *cached
	if ex := x.expanded[n.id]; ex != nil {
		out, err = x.collect(ex)
	} else {
		x.progress.start(n)
		x.sendProgress()
		x.begin(n)
		out, pending, err = x.call(n)
	}
	if err != nil || pending {
		return pending, err
	}
	if out.ui != nil {
		x.keepUI(n, out.ui)
	}
	x.results[n.id] = out
	if n.parent == "" {
		out.size = sizeOf(out.values)
		x.s.cache.put(x.signature(n.id), out)
	}
	x.progress.finish(n)
	x.sendProgress()
	x.executed = append(x.executed, n.id)
	return false, nil
}

// begin tells that a node executes.
func (x *execution) begin(n *node) {
	x.s.mu.Lock()
	x.s.lastNode = n.displayID()
	x.s.mu.Unlock()
	if x.item.clientID != "" {
		x.s.send("executing", ordered{{"node", n.id}, {"display_node", n.displayID()}, {"prompt_id", x.item.id}}, x.item.clientID)
	}
}

// keepUI stores a node's ui for the history and tells the client.
func (x *execution) keepUI(n *node, ui ordered) {
	var parent any
	real := n.id
	if n.parent != "" {
		parent, real = n.parent, n.parent
	}
	x.entry.outputs = append(x.entry.outputs, field{n.id, ui})
	x.entry.meta = append(x.entry.meta, field{n.id, ordered{{"node_id", n.id}, {"display_node", n.displayID()}, {"parent_node", parent}, {"real_node_id", real}}})
	if x.item.clientID != "" {
		x.s.send("executed", ordered{{"node", n.id}, {"display_node", n.displayID()}, {"output", ui}, {"prompt_id", x.item.id}}, x.item.clientID)
	}
}

// sendProgress sends the whole state; to everybody when the prompt has no client id, which is ComfyUI's leak.
func (x *execution) sendProgress() {
	if listens, _ := x.s.hub.listens(x.item.clientID); !listens {
		return // a message repeats all nodes: not worth making for nobody
	}
	x.s.send("progress_state", x.progress.encode(), x.item.clientID)
}

// fail ends the prompt with an interrupt or an exception.
func (x *execution) fail(n *node, err error) error {
	executed := append([]string{}, x.executed...)
	base := ordered{{"prompt_id", x.item.id}, {"node_id", n.id}, {"node_type", n.class}, {"executed", executed}}
	if errors.Is(err, errInterrupted) {
		x.entry.cancelled = true
		x.s.log.info("Processing interrupted")
		return x.broadcast("interrupted", "execution_interrupted", base, JournalEntry{Node: n.id})
	}
	var raised *raise
	if !errors.As(err, &raised) {
		raised = &raise{kind: "RuntimeError", text: err.Error()}
	}
	x.s.log.error("!!! Exception during processing !!! %s", raised.text)
	if raised.memory {
		x.s.log.error("Got an OOM, unloading all loaded models.")
		x.s.memory.clear()
	}
	data := append(base, field{"exception_message", raised.message()}, field{"exception_type", raised.kind}, field{"traceback", raised.traceback()},
		field{"current_inputs", x.shownInputs(n)}, field{"current_outputs", x.known()})
	x.entry.failure = data
	return x.say("error", "execution_error", data, JournalEntry{Node: n.id, Detail: raised.kind + ": " + raised.text})
}

// known are the nodes that the cache has a signature for.
func (x *execution) known() []string {
	ids := []string{}
	for _, n := range x.item.graph.nodes {
		ids = append(ids, n.id)
	}
	return ids
}

// say records a message of the prompt in journal and history and sends it to the prompt's client, if it has one.
func (x *execution) say(journal, event string, data ordered, line JournalEntry) error {
	return x.message(journal, event, data, line, x.item.clientID != "")
}

// broadcast is say, but without a client id everybody hears it.
func (x *execution) broadcast(journal, event string, data ordered, line JournalEntry) error {
	return x.message(journal, event, data, line, true)
}

func (x *execution) message(kind, event string, data ordered, line JournalEntry, send bool) error {
	line.Event, line.PromptID, line.ClientID = kind, x.item.id, x.item.clientID
	if err := x.s.journal.write(line); err != nil {
		x.s.log.error("%v", err)
		return fmt.Errorf("%w: %w", errThreadDied, err) // a run that is not on record must not go on
	}
	data = append(data, field{"timestamp", time.Now().UnixMilli()})
	x.entry.messages = append(x.entry.messages, message{event, data})
	if send {
		x.s.send(event, data, x.item.clientID)
	}
	return nil
}

// stamp is a message's timestamp in ms.
func stamp(m message) int64 {
	data := m.data.(ordered)
	return data[len(data)-1].value.(int64)
}
