package gpu

import (
	"maps"
	"math"
	"slices"
	"time"

	"comfyfleet/models"
)

// tracker turns one prompt's events into progress. It is pure: time comes with the events.
//
// A submitted node is done when it was cached, when a progress_state says finished, or, on engines without
// progress_state, when the next node begins. What expansion adds counts under the submitted node that it came from.
type tracker struct {
	nodes   map[string]string // reachable submitted nodes and their class
	loaders map[string]bool
	now     models.Progress
	phase   models.Phase

	done    map[string]bool
	partial map[string]float64 // 0…1 of nodes that run
	// states says that the engine sends progress_state: other hints about finished nodes are not needed then.
	states bool

	started time.Time
	current string
	times   map[string]*nodeTime
}

// nodeTime is one submitted node's time so far.
type nodeTime struct {
	begin, end, firstStep time.Time
	steps                 int
	cached                bool
}

func newTracker(nodes map[string]string, loaders []string, floor models.Progress) *tracker {
	t := &tracker{nodes: nodes, loaders: map[string]bool{}, done: map[string]bool{}, partial: map[string]float64{},
		times: map[string]*nodeTime{}, phase: models.PhaseExecuting}
	for _, id := range loaders {
		t.loaders[id] = true
	}
	t.now = models.Progress{Percent: min(floor.Percent, 99), NodesTotal: len(nodes), LastEventAt: floor.LastEventAt}
	return t
}

// apply takes one event and reports whether anything that readers see changed.
func (t *tracker) apply(e Event) bool {
	before := t.now
	switch e.Kind {
	case EventStart:
		t.start(e.At)
	case EventCached:
		for _, id := range e.Nodes {
			t.finish(id, e.At, true)
		}
	case EventNode:
		t.enter(e.Node, e.At)
	case EventSteps:
		t.step(e.Node, e.Node, e.Value, e.Max, e.At)
	case EventNodes:
		t.statesOf(e.States, e.At)
	case EventExecuted:
		if !t.states {
			t.finish(e.Node, e.At, false)
		}
	case EventSuccess:
		t.succeed(e.At)
	case EventException, EventInterrupted, EventEnd, EventText:
	default:
		return false
	}
	if !e.greets() {
		t.now.LastEventAt = &e.At
	}
	t.recount()
	return t.now != before || e.Kind == EventStart
}

func (t *tracker) start(at time.Time) {
	if t.started.IsZero() {
		t.started = at
	}
}

func (t *tracker) enter(id string, at time.Time) {
	if id == "" {
		return
	}
	t.start(at)
	if t.current != "" && t.current != id && !t.states {
		t.finish(t.current, at, false)
	}
	if t.current != id {
		t.now.Value, t.now.Max = 0, 0
	}
	t.current = id
	if n := t.time(id); n != nil && n.begin.IsZero() {
		n.begin = at
	}
}

// statesOf takes a progress_state. Its entries are cumulative, so finished ones repeat.
func (t *tracker) statesOf(states []NodeState, at time.Time) {
	t.states = true
	for _, s := range states {
		switch {
		case s.State == "finished" && s.Node == s.Display:
			t.finish(s.Display, at, false)
		case s.State == "running":
			if n := t.time(s.Display); n != nil && n.begin.IsZero() {
				n.begin = at
			}
			t.step(s.Node, s.Display, s.Value, s.Max, at)
		}
	}
}

// step takes a step counter. A counter of one step says nothing: engines send 0 of 1 for every node.
func (t *tracker) step(node, display string, value, top float64, at time.Time) {
	if top <= 1 || t.done[display] {
		return
	}
	if display == t.current || t.current == "" {
		t.now.Value, t.now.Max = clampInt(value), clampInt(top)
	}
	if _, ok := t.nodes[display]; !ok {
		return
	}
	// What expansion added restarts its own counter: the parent's part only grows.
	t.partial[display] = max(t.partial[display], min(value/top, 1))
	if n := t.time(display); n != nil && value > 0 {
		n.steps = max(n.steps, clampInt(value))
		if n.firstStep.IsZero() {
			n.firstStep = at
		}
	}
}

func clampInt(f float64) int {
	if math.IsNaN(f) {
		return 0
	}
	return int(max(0, min(f, math.MaxInt32)))
}

func (t *tracker) finish(id string, at time.Time, cached bool) {
	if _, ok := t.nodes[id]; !ok || t.done[id] {
		return
	}
	t.done[id] = true
	delete(t.partial, id)
	n := t.time(id)
	n.cached = cached
	if n.begin.IsZero() {
		n.begin = at
	}
	n.end = at
}

func (t *tracker) succeed(at time.Time) {
	for id := range t.nodes {
		if n := t.times[id]; n != nil && !n.begin.IsZero() {
			t.finish(id, at, false)
		}
		t.done[id] = true
	}
	clear(t.partial)
	t.current = ""
	t.now.Value, t.now.Max = 0, 0
}

func (t *tracker) recount() {
	t.now.NodesDone = len(t.done)
	if len(t.nodes) > 0 {
		sum := float64(len(t.done))
		for _, f := range t.partial {
			sum += f
		}
		t.now.Percent = max(t.now.Percent, min(99, int(100*sum/float64(len(t.nodes)))))
	}
	t.now.CurrentNode, t.now.CurrentClass = t.current, t.nodes[t.current]
	t.phase = models.PhaseExecuting
	if t.loading() {
		t.phase = models.PhaseLoading
	}
}

// loading reports whether the current node loads models and has not begun its own steps.
func (t *tracker) loading() bool {
	n := t.times[t.current]
	return t.loaders[t.current] && !t.done[t.current] && (n == nil || n.firstStep.IsZero())
}

func (t *tracker) time(id string) *nodeTime {
	if _, ok := t.nodes[id]; !ok {
		return nil
	}
	n := t.times[id]
	if n == nil {
		n = &nodeTime{}
		t.times[id] = n
	}
	return n
}

// sum is the prompt's node times, in the order in which nodes began, and how many milliseconds of them went into
// loading models. end closes what still runs.
func (t *tracker) sum(end time.Time) (list []models.NodeTime, loadMS int64) {
	ids := slices.SortedFunc(maps.Keys(t.times), func(a, b string) int {
		if c := t.times[a].begin.Compare(t.times[b].begin); c != 0 {
			return c
		}
		return lessNode(a, b)
	})
	for _, id := range ids {
		n := t.times[id]
		if n.begin.IsZero() {
			continue
		}
		if n.end.IsZero() {
			n.end = end
		}
		nt := models.NodeTime{Node: id, Class: t.nodes[id], StartMS: max(0, n.begin.Sub(t.started).Milliseconds()),
			MS: max(0, n.end.Sub(n.begin).Milliseconds()), Steps: n.steps, Cached: n.cached}
		if t.loaders[id] && !n.cached {
			nt.LoadMS = nt.MS
			if !n.firstStep.IsZero() {
				nt.LoadMS = max(0, n.firstStep.Sub(n.begin).Milliseconds())
			}
			loadMS += nt.LoadMS
		}
		list = append(list, nt)
	}
	return list, loadMS
}

// lessNode orders node ids: shorter first, so that numbers sort as numbers.
func lessNode(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	if a < b {
		return -1
	}
	return 1
}
