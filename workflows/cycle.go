package workflows

// step is one node on the path that cycle follows.
type step struct {
	node *Node
	next int // index of the input to follow
}

// cycle finds nodes that wait for each other among those that starts depend on, in the order of the loop; nil when
// there are none. It keeps its own stack: a chain of 5000 nodes is a legal graph.
func (g *Graph) cycle(starts []*Node) []*Node {
	done := make(map[string]bool, len(g.nodes))
	onPath := make(map[string]bool)
	for _, start := range starts {
		path := []step{{node: start}}
		onPath[start.ID] = true
		for len(path) > 0 {
			top := &path[len(path)-1]
			if done[top.node.ID] || top.next == len(top.node.inputs) {
				done[top.node.ID] = true
				delete(onPath, top.node.ID)
				path = path[:len(path)-1]
				continue
			}
			link, ok := top.node.inputs[top.next].Link()
			top.next++
			up, known := g.byID[link.Node]
			switch {
			case !ok || !known || done[up.ID]:
			case onPath[up.ID]:
				return loop(path, up)
			default:
				onPath[up.ID] = true
				path = append(path, step{node: up})
			}
		}
	}
	return nil
}

// loop is the end of path from node on.
func loop(path []step, node *Node) []*Node {
	var nodes []*Node
	for _, s := range path {
		if s.node == node || nodes != nil {
			nodes = append(nodes, s.node)
		}
	}
	return nodes
}
