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
	followed := make(map[string]bool, len(g.nodes))
	for _, n := range g.nodes {
		for _, in := range n.inputs {
			if l, ok := in.Link(); ok {
				followed[l.Node] = true
			}
		}
	}
	var list []*Node
	for _, n := range g.nodes {
		c, known := d.Class(n.Class)
		if known && c.OutputNode || !known && !followed[n.ID] {
			list = append(list, n)
		}
	}
	return list
}

// walk calls fn once for each node that starts depend on, themselves included. It follows every link, also of inputs
// that a definition does not list, as ComfyUI's execution does.
func (g *Graph) walk(starts []*Node, fn func(*Node)) {
	seen := make(map[string]bool, len(g.nodes))
	var pending []*Node
	visit := func(n *Node) {
		if !seen[n.ID] {
			seen[n.ID] = true
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
			l, ok := in.Link()
			if !ok {
				continue
			}
			if up, ok := g.byID[l.Node]; ok {
				visit(up)
			}
		}
	}
}
