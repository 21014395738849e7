package views

import (
	"strconv"

	"comfyfleet/static"
)

// Quantity is a number with its unit; an empty Value is shown as an en dash.
type Quantity struct{ Value, Unit string }

// Time is a moment. Text is what is shown; ISO makes the browser keep an age or a countdown current.
type Time struct {
	Text  string
	ISO   string // RFC 3339, for the datetime attribute
	Exact string // shown on hover
	// Tick is "age" (since), "left" (until) or "" for a text that stays.
	Tick string
	// Suffix follows a ticking text: " ago".
	Suffix string
}

// State is a job's or worker's state as a glyph and a word.
type State struct {
	// Name chooses glyph and tone; Word is what is read.
	Name string
	Word string
	// Percent draws a running state as a ring.
	Percent int
}

// Ring reports whether the state is drawn as a ring of Percent.
func (s State) Ring() bool { return s.Name == "running" || s.Name == "busy" }

func (s State) dash() string { return strconv.Itoa(s.Percent) + " 100" }

// Progress is a bar.
type Progress struct {
	Percent int
	State   string
	Label   string
}

func (p Progress) text() string { return strconv.Itoa(p.Percent) + " %" }

// Segment is one part of a trace: Class is sampling, loading, down, waited, lost …; X and Width are CSS percentages.
type Segment struct{ Class, X, Width string }

// Trace is a stacked strip. Class adds to its look: "tall", "thin mm", "hourstrip".
type Trace struct {
	Class    string
	Label    string
	Segments []Segment
}

// Verb is something that can be done: a link, a form post, or a button that opens a dialog.
type Verb struct {
	Label string
	Icon  string
	// Kind is "", "solid", "danger" or "bare".
	Kind  string
	Small bool
	// Wide hides it on phones.
	Wide bool
	// Link is followed; Post is posted at once; Confirm opens a dialog first. One of them is set.
	Link    string
	Post    string
	Confirm *Confirm
	// Disabled says why it cannot be done now; "" when it can.
	Disabled string
	TestID   string
}

func (v Verb) class() string {
	c := "btn"
	if v.Kind != "" {
		c += " btn--" + v.Kind
	}
	if v.Small {
		c += " btn--sm"
	}
	if v.Wide {
		c += " wide-only"
	}
	return c
}

// Confirm is a dialog before a verb.
type Confirm struct {
	ID    string
	Title string
	Text  string
	// Button says verb, object and count; Keep is the way out.
	Button string
	Keep   string
	Danger bool
	Action string
	Fields []Hidden
	// Choice adds a select box.
	Choice *Choice
}

// Hidden is a hidden field of a form.
type Hidden struct{ Name, Value string }

// Choice is a select box.
type Choice struct {
	Name, Label string
	Options     []Option
}

// Option is one entry of a select box.
type Option struct {
	Value, Label string
	Selected     bool
}

// KV is one line of a definition list.
type KV struct {
	Key string
	// Value is text; Code sets it in mono; Link makes it a link; Copy adds a copy button.
	Value string
	Note  string
	Code  bool
	Link  string
	Copy  bool
	Whole string // what is copied when Value is only its beginning
	Long  bool   // scrolls in a box of its own
	State *State
}

// Folded is what is left out of a list until it is opened: "14 cached".
type Folded struct{ ID, Label, Text string }

// Empty is what stands where a list has nothing to show: nothing here, nothing matches, or could not be read.
type Empty struct {
	Title string
	Text  string
	Acts  []Verb
	// Failed marks an error.
	Failed bool
	Trace  bool
}

// Banner is said above a page whose truth is in doubt, or that is simulated or paused.
type Banner struct {
	ID    string
	State string
	Bold  string
	Text  string
	Act   *Verb
	Phone bool // only on phones
}

// LogLine is one line of a process's output. Engines write no times.
type LogLine struct {
	Level string // info, warn, error
	State string // tone: "", loading, failed
	Who   string
	Text  string
}

// Sample is a piece of code to copy.
type Sample struct{ ID, Label, Code string }

func icon(name string) string { return static.URL("css/icons/sprite.svg") + "#" + name }
