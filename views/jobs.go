package views

// Jobs is the list of jobs.
type Jobs struct {
	Shell
	Tabs   []Tab
	Filter Filter
	Rows   []JobRow
	// Fresh says how many newer jobs wait above the list: "12 new jobs", "" for none.
	Fresh string
	// Refresh is the address of this list from its top.
	Refresh string
	Range   string
	Newer   string
	Older   string
	Empty   *Empty
	Verbs   []Verb
	Bulk    Bulk
}

// Tab is one tab of a page.
type Tab struct {
	Label   string
	Count   string
	URL     string
	Current bool
	State   string
}

// Filter is the query of a list, kept in the URL.
type Filter struct {
	Chips []Chip
	// Rest is the query without what the input adds.
	Query       string
	Tab         string
	Placeholder string
	Suggestions []string
}

// Chip is one key:value of a filter.
type Chip struct{ Key, Value, Remove string }

// Bulk is what can be done with selected jobs.
type Bulk struct {
	Query string
	// Total is how many jobs the filter matches: "14" or "1 000+".
	Total    string
	Matching string // "Select all 14"
	Verbs    []BulkVerb
	// Disabled says why nothing can be done, "" when it can.
	Disabled string
}

// BulkVerb is one act on a selection; Label holds {n} and {jobs}.
type BulkVerb struct{ Name, Label, Icon, Text, Kind string }

func (v BulkVerb) class() string {
	if v.Kind == "" {
		return "btn btn--sm"
	}
	return "btn btn--sm btn--" + v.Kind
}

// JobRow is one job of a list.
type JobRow struct {
	ID       string
	Short    string
	URL      string
	State    State
	Workflow string
	Version  string
	// WorkflowURL runs or shows the workflow, "" for a raw graph.
	WorkflowURL string
	Tenant      string
	// Percent is set for a job under way; otherwise Detail is a reason or a result.
	Running  bool
	Progress Progress
	Detail   string
	// Plain marks a detail of the ordinary kind.
	Plain  bool
	Origin string
	GPU    Quantity
	// Waited and Ran are replaced by WaitedSince and RanSince while they grow.
	Waited      Quantity
	WaitedSince *Time
	Ran         Quantity
	RanSince    *Time
	Age         Time
	Attempts    string
	// Many marks more than one attempt.
	Many      bool
	Simulated bool
	Priority  string
	// Gone dims a row that no longer matches the filter.
	Gone bool
}

func pagerRel(label string) string {
	if label == "Older" {
		return "next"
	}
	return "prev"
}
