package workflows

// step is one node on the path that cycle follows.
type step struct {
	node *Node
	next int // index of the input to follow
}

// cycle finds nodes that wait for each other among those that starts depend on, in the order of the loop; nil when
// there are none. It keeps its own stack: a chain of 5000 nodes is a legal graph.
func (g *Graph) cycle(starts []*Node) []*Node {
	done, onPath := g.marks(), g.marks()
	for _, start := range starts {
		path := []step{{node: start}}
		onPath[start.index] = true
		for len(path) > 0 {
			top := &path[len(path)-1]
			if done[top.node.index] || top.next == len(top.node.inputs) {
				done[top.node.index], onPath[top.node.index] = true, false
				path = path[:len(path)-1]
				continue
			}
			up := g.from(top.node.inputs[top.next])
			top.next++
			switch {
			case up == nil || done[up.index]:
			case onPath[up.index]:
				return loop(path, up)
			default:
				onPath[up.index] = true
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
