package sim

import "slices"

// plan decides which node comes next, as ComfyUI's ExecutionList does: what blocks nothing is ready; among ready nodes
// outputs come first, then what an output waits for, then the oldest.
type plan struct {
	order    []string       // pending nodes in the order in which they were found
	blockers map[string]int // unfinished nodes that a node waits for
	blocking map[string][]string
	known    map[string]bool // ever planned
	pending  map[string]bool // planned and not done
}

func newPlan() *plan {
	return &plan{blockers: map[string]int{}, blocking: map[string][]string{}, known: map[string]bool{}, pending: map[string]bool{}}
}

// add plans a node and all that it needs. cached nodes need no run, so nothing before them is planned.
func (p *plan) add(id string, links func(id string) []string, cached func(id string) bool) {
	type edge struct{ from, to string }
	var edges []edge
	stack := []string{id}
	for len(stack) > 0 {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if p.known[id] {
			continue
		}
		p.known[id], p.pending[id] = true, true
		p.order = append(p.order, id)
		for _, from := range links(id) {
			if !cached(from) {
				stack = append(stack, from)
			}
			edges = append(edges, edge{from, id})
		}
	}
	for _, e := range edges {
		p.wait(e.to, e.from)
	}
}

// wait makes a node wait for another that is not done.
func (p *plan) wait(id, from string) {
	if !p.pending[from] || slices.Contains(p.blocking[from], id) {
		return
	}
	p.blocking[from] = append(p.blocking[from], id)
	p.blockers[id]++
}

// next picks a ready node, "" when none is left.
func (p *plan) next(output func(id string) bool) string {
	var ready []string
	for _, id := range p.order {
		if p.blockers[id] == 0 {
			ready = append(ready, id)
		}
	}
	if len(ready) == 0 {
		return ""
	}
	reaches := func(depth int) func(string) bool { return func(id string) bool { return p.reaches(id, depth, output) } }
	for depth := range 3 { // an output itself, one link away, two links away
		if i := slices.IndexFunc(ready, reaches(depth)); i >= 0 {
			return ready[i]
		}
	}
	return ready[0]
}

// reaches says whether an output lies exactly so many links behind a node.
func (p *plan) reaches(id string, depth int, output func(string) bool) bool {
	if depth == 0 {
		return output(id)
	}
	return slices.ContainsFunc(p.blocking[id], func(next string) bool { return p.reaches(next, depth-1, output) })
}

// done removes a finished node and frees what waited for it.
func (p *plan) done(id string) {
	if i := slices.Index(p.order, id); i >= 0 {
		p.order = slices.Delete(p.order, i, i+1)
	}
	for _, next := range p.blocking[id] {
		p.blockers[next]--
	}
	delete(p.blocking, id)
	delete(p.pending, id)
}
