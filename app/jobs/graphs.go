package jobs

import (
	"bytes"
	"container/list"
	"hash/maphash"
	"sync"

	"comfyfleet/workflows"
)

// Limits of the graphs that are kept parsed. Tenants send the same few graphs over and over with other inputs, and
// reading a graph is the dearest part of accepting it.
const (
	maxParsed      = 128
	maxParsedBytes = 16 << 20 // of the graphs as sent; parsed they take about three times as much
	// doors is how many graphs are remembered that came once. Only one that comes again is kept: most that differ from
	// each other in a seed never do.
	doors = 1024
)

// parsedGraphs keeps the graphs that came more than once lately, by their exact bytes. They are shared: who changes one
// clones it.
type parsedGraphs struct {
	seed maphash.Seed

	mu    sync.Mutex
	byKey map[uint64]*list.Element
	order list.List // of *parsedGraph, newest first
	bytes int
	once  [doors]uint64 // keys of graphs that came once, each at its own place
}

type parsedGraph struct {
	key   uint64
	raw   []byte
	graph *workflows.Graph
}

func newParsedGraphs() *parsedGraphs {
	return &parsedGraphs{seed: maphash.MakeSeed(), byKey: map[uint64]*list.Element{}}
}

// parse is workflows.Parse.
func (p *parsedGraphs) parse(raw []byte) (*workflows.Graph, error) {
	key := maphash.Bytes(p.seed, raw)
	known, again := p.lookup(key, raw)
	if known != nil {
		return known, nil
	}
	g, err := workflows.Parse(raw)
	if err == nil && again {
		p.keep(&parsedGraph{key, bytes.Clone(raw), g})
	}
	return g, err
}

// lookup finds a graph; again says that it is not kept and came before.
func (p *parsedGraphs) lookup(key uint64, raw []byte) (known *workflows.Graph, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byKey[key]
	if e == nil {
		door := &p.once[key%doors]
		again = *door == key
		*door = key
		return nil, again
	}
	if g := e.Value.(*parsedGraph); bytes.Equal(g.raw, raw) {
		p.order.MoveToFront(e)
		return g.graph, false
	}
	return nil, false // two graphs with one hash
}

func (p *parsedGraphs) keep(g *parsedGraph) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey[g.key] != nil {
		return // a twin was quicker
	}
	p.byKey[g.key] = p.order.PushFront(g)
	p.bytes += len(g.raw)
	for p.order.Len() > maxParsed || p.bytes > maxParsedBytes {
		oldest := p.order.Remove(p.order.Back()).(*parsedGraph)
		delete(p.byKey, oldest.key)
		p.bytes -= len(oldest.raw)
	}
}
