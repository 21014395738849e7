package workflows

// Reachable maps the nodes that a run executes, those that the outputs depend on, to their class_type. Without
// definitions every node that feeds no other may be an output.
func (g *Graph) Reachable(d *Defs) map[string]string {
	reach := make(map[string]string, len(g.nodes))
	g.walk(g.outputs(d), func(n *Node) { reach[n.ID] = n.Class })
	return reach
}

// outputs lists the nodes that are a reason to run the graph. A class without a definition counts when nothing follows
// it.
func (g *Graph) outputs(d *Defs) []*Node {
	followed := g.marks()
	for _, n := range g.nodes {
		for _, in := range n.inputs {
			if up := g.from(in); up != nil {
				followed[up.index] = true
			}
		}
	}
	var list []*Node
	for _, n := range g.nodes {
		c, known := d.Class(n.Class)
		if known && c.OutputNode || !known && !followed[n.index] {
			list = append(list, n)
		}
	}
	return list
}

// walk calls fn once for each node that starts depend on, themselves included. It follows every link, also of inputs
// that a definition does not list, as ComfyUI's execution does.
func (g *Graph) walk(starts []*Node, fn func(*Node)) {
	seen := g.marks()
	var pending []*Node
	visit := func(n *Node) {
		if !seen[n.index] {
			seen[n.index] = true
			pending = append(pending, n)
		}
	}
	for _, n := range starts {
		visit(n)
	}
	for len(pending) > 0 {
		n := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		fn(n)
		for _, in := range n.inputs {
			if up := g.from(in); up != nil {
				visit(up)
			}
		}
	}
}

// marks has a place for each node, by its index.
func (g *Graph) marks() []bool { return make([]bool, len(g.nodes)) }

// from is the node that an input takes its value from, nil when it is no link or leads nowhere.
func (g *Graph) from(in Input) *Node {
	if in.link == nil {
		return nil
	}
	return g.byID[in.link.Node]
}
