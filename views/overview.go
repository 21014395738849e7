package views

// Overview is the first page.
type Overview struct {
	Shell
	Verbs     []Verb
	Stats     []Stat
	Strips    []Strip
	Axis      []string
	Attention []Attention
	Running   []RunLine
	// Idle stands in for Running.
	Idle   string
	Latest []Shot
}

// Stat is one of the four numbers with its 24 hours.
type Stat struct {
	Label   string
	Scope   string // the time that Value is of: "1 h"
	Value   string
	Unit    string
	Compare string
	URL     string
	Spark   Spark
}

// Spark is a line without axes: SVG points in a box of 100 by 24.
type Spark struct{ Label, Line, Area string }

// Strip is one worker's last hour.
type Strip struct {
	Name     string
	URL      string
	State    State
	What     string
	Note     string
	Trace    Trace
	Sampling string
	Loading  string
	Known    string // of what the shares are
	// Hot tones the loading share.
	Hot bool
}

// firstFrame makes a browser draw the first frame of a video that it only knows the length of.
const firstFrame = "#t=0.01"

// Attention is one thing that needs a decision, with the button that mends it.
type Attention struct {
	State string
	Title string
	Text  string
	Act   Verb
}

// RunLine is one running job.
type RunLine struct {
	Name     string
	Tenant   string
	On       string
	URL      string
	Progress Progress
	Node     string
	For      Time
}

// Shot is a small picture of an output.
type Shot struct {
	URL   string
	Image string
	// Video draws the first frame of a video instead of an image.
	Video string
	Alt   string
	Name  string
	Note  Time
	Mark  string
}
