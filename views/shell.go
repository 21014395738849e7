package views

import (
	"github.com/a-h/templ"

	"comfyfleet/static"
)

// Shell is what surrounds every page of a signed-in operator.
type Shell struct {
	Title string
	// Nav names the current rail entry: run, overview, jobs, gpus …
	Nav string
	// Status is the part that every stream keeps current.
	Status  Status
	Env     Env
	Email   string
	Role    string
	CSRF    string
	Theme   string // "", "dark" or "light"
	Version string
	// LiveURL is the page's stream, "" for a page that does not change.
	LiveURL string
	Banners []Banner
	// Extra are the entries of the rail below the daily ones.
	Groups []NavGroup
}

// NavGroup is a titled group of the rail.
type NavGroup struct {
	Title   string
	Entries []NavEntry
}

// NavEntry is one entry of the rail.
type NavEntry struct{ Name, Label, Icon, URL string }

// Env says which installation this is.
type Env struct {
	Host      string
	Simulated bool
}

// Status is the status sentence and the counts of the rail.
type Status struct {
	Sentence []Clause
	// Active is queued and running jobs, "" for none.
	Active string
	Pips   []Pip
	Cards  string // the pips in words
}

// Clause is one part of the status sentence. State tones it when it is not normal.
type Clause struct {
	State string
	Link  string
	// Lead and Wide are left out on phones: "oldest ", " cards". Before stands before Bold, Text after it.
	Lead, Before, Bold, Wide, Text string
	// Since keeps Bold current when set.
	Since *Time
	// Tail may be cut off.
	Tail bool
}

// Pip is one worker in the rail.
type Pip struct{ State string }

func (s Shell) is(nav string) templ.Attributes {
	if s.Nav == nav {
		return templ.Attributes{"aria-current": "page"}
	}
	return nil
}

// htmxConfig switches off what a strict content security policy forbids: style elements and eval.
const htmxConfig = `{"includeIndicatorStyles":false,"allowEval":false,"allowScriptTags":false,"selfRequestsOnly":true,"historyCacheSize":0,"defaultSwapStyle":"none","responseHandling":[{"code":"204","swap":false},{"code":"[2345]..","swap":true}]}`

func css(name string) string    { return static.URL("css/" + name) }
func script(name string) string { return static.URL("js/" + name) }
func vendored(name string) string {
	return static.URL("vendor/" + name)
}
