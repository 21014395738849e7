package views

// Graph is a drawn graph: boxes in layers from left to right, in SVG units.
type Graph struct {
	Width, Height string
	Label         string
	Nodes         []GraphNode
	Edges         []GraphEdge
}

// GraphNode is one box.
type GraphNode struct {
	X, Y, Width, Height string
	TextX, TitleY, SubY string
	Title               string
	Sub                 string
	State               string
	Tip                 string
}

// GraphEdge is one link as an SVG path.
type GraphEdge struct{ Path string }
