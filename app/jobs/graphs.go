package jobs

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"sync"

	"comfyfleet/workflows"
)

// Limits of the graphs that are kept parsed. Tenants send the same few graphs over and over with other inputs, and
// reading a graph is the dearest part of accepting it.
const (
	maxParsed      = 128
	maxParsedBytes = 16 << 20 // of the graphs as sent; parsed they take about twice as much
)

// parsedGraphs keeps the graphs that were parsed last, by their exact bytes. They are shared: who changes one clones it.
type parsedGraphs struct {
	mu    sync.Mutex
	byKey map[[sha256.Size]byte]*list.Element
	order list.List // of *parsedGraph, newest first
	bytes int
}

type parsedGraph struct {
	key   [sha256.Size]byte
	graph *workflows.Graph
	size  int
}

// parse is workflows.Parse. raw may change afterwards.
func (p *parsedGraphs) parse(raw []byte) (*workflows.Graph, error) {
	key := sha256.Sum256(raw)
	if g := p.lookup(key); g != nil {
		return g, nil
	}
	g, err := workflows.Parse(bytes.Clone(raw)) // the graph keeps parts of it
	if err != nil {
		return nil, err
	}
	p.keep(&parsedGraph{key, g, len(raw)})
	return g, nil
}

func (p *parsedGraphs) lookup(key [sha256.Size]byte) *workflows.Graph {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byKey[key]
	if e == nil {
		return nil
	}
	p.order.MoveToFront(e)
	return e.Value.(*parsedGraph).graph
}

func (p *parsedGraphs) keep(g *parsedGraph) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey == nil {
		p.byKey = map[[sha256.Size]byte]*list.Element{}
	}
	if p.byKey[g.key] != nil {
		return // a twin was quicker
	}
	p.byKey[g.key] = p.order.PushFront(g)
	p.bytes += g.size
	for p.order.Len() > maxParsed || p.bytes > maxParsedBytes {
		oldest := p.order.Remove(p.order.Back()).(*parsedGraph)
		delete(p.byKey, oldest.key)
		p.bytes -= oldest.size
	}
}
