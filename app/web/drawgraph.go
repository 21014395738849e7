package web

import (
	"fmt"
	"slices"
	"strconv"

	"comfyfleet/views"
	"comfyfleet/workflows"
)

// Sizes of a drawn graph, in SVG units. A title of 22 characters fits a box.
const (
	boxWidth  = 172
	boxHeight = 46
	gapX      = 56
	gapY      = 14
	margin    = 20
	maxTitle  = 22
)

// drawGraph lays a graph out in layers: a node stands right of everything that it takes input from, and in each layer
// nodes stand near what they are linked to. Graphs with a cycle, which no engine runs, are drawn too.
func drawGraph(g *workflows.Graph, states map[string]string) views.Graph {
	nodes := g.Nodes()
	links := linksOf(g)
	layer := layersOf(nodes, links)
	columns := map[int][]*workflows.Node{}
	last := 0
	for _, n := range nodes {
		columns[layer[n.ID]] = append(columns[layer[n.ID]], n)
		last = max(last, layer[n.ID])
	}
	row := map[string]float64{}
	tallest := 0
	for i := 0; i <= last; i++ {
		order(columns[i], links, row)
		tallest = max(tallest, len(columns[i]))
		for k, n := range columns[i] {
			row[n.ID] = float64(k)
		}
	}
	at := func(n *workflows.Node) (x, y int) {
		column := columns[layer[n.ID]]
		space := (tallest - len(column)) * (boxHeight + gapY) / 2
		return margin + layer[n.ID]*(boxWidth+gapX), margin + space + int(row[n.ID])*(boxHeight+gapY)
	}
	v := views.Graph{
		Width: strconv.Itoa(2*margin + (last+1)*(boxWidth+gapX) - gapX), Height: strconv.Itoa(2*margin + tallest*(boxHeight+gapY) - gapY),
		Label: fmt.Sprintf("Graph of %s", plural(len(nodes), "node")),
	}
	for _, n := range nodes {
		x, y := at(n)
		v.Nodes = append(v.Nodes, drawNode(n, x, y, states[n.ID]))
		for _, from := range links[n.ID] {
			source, _ := g.Node(from)
			sx, sy := at(source)
			v.Edges = append(v.Edges, drawEdge(sx+boxWidth, sy+boxHeight/2, x, y+boxHeight/2))
		}
	}
	return v
}

// linksOf maps each node to the nodes that it takes input from.
func linksOf(g *workflows.Graph) map[string][]string {
	links := map[string][]string{}
	for _, n := range g.Nodes() {
		for _, in := range n.Inputs() {
			if l, ok := in.Link(); ok {
				if _, exists := g.Node(l.Node); exists && !slices.Contains(links[n.ID], l.Node) {
					links[n.ID] = append(links[n.ID], l.Node)
				}
			}
		}
	}
	return links
}

// layersOf is the length of the longest way to each node from a node without inputs.
func layersOf(nodes []*workflows.Node, links map[string][]string) map[string]int {
	layer := map[string]int{}
	open := map[string]bool{}
	var depth func(id string) int
	depth = func(id string) int {
		if d, ok := layer[id]; ok {
			return d
		}
		if open[id] {
			return 0 // a cycle
		}
		open[id] = true
		d := 0
		for _, from := range links[id] {
			d = max(d, depth(from)+1)
		}
		open[id] = false
		layer[id] = d
		return d
	}
	for _, n := range nodes {
		depth(n.ID)
	}
	return layer
}

// order puts a column's nodes beside what they are linked to in the columns before.
func order(column []*workflows.Node, links map[string][]string, row map[string]float64) {
	weight := map[string]float64{}
	for i, n := range column {
		sum := 0.0
		for _, from := range links[n.ID] {
			sum += row[from]
		}
		if len(links[n.ID]) > 0 {
			weight[n.ID] = sum / float64(len(links[n.ID]))
		} else {
			weight[n.ID] = float64(i)
		}
	}
	slices.SortStableFunc(column, func(a, b *workflows.Node) int {
		switch d := weight[a.ID] - weight[b.ID]; {
		case d < 0:
			return -1
		case d > 0:
			return 1
		}
		return 0
	})
}

func drawNode(n *workflows.Node, x, y int, state string) views.GraphNode {
	title := n.Title
	if title == "" {
		title = n.Class
	}
	return views.GraphNode{
		X: strconv.Itoa(x), Y: strconv.Itoa(y), Width: strconv.Itoa(boxWidth), Height: strconv.Itoa(boxHeight),
		TextX: strconv.Itoa(x + 10), TitleY: strconv.Itoa(y + 20), SubY: strconv.Itoa(y + 36),
		Title: clip(title, maxTitle), Sub: clip(n.ID+" "+n.Class, maxTitle+4), State: state, Tip: n.ID + " " + n.Class + "\n" + title,
	}
}

func drawEdge(x1, y1, x2, y2 int) views.GraphEdge {
	bend := max(24, (x2-x1)/2)
	return views.GraphEdge{Path: fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+bend, y1, x2-bend, y2, x2, y2)}
}

// clip cuts text at n characters.
func clip(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}
