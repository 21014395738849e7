package views

// Job is one job's page. One of Summary, Graph, JSON, Events and Deliveries is shown.
type Job struct {
	Shell
	Head  JobHead
	Verbs []Verb
	// Asking are the verbs that ask before they act, also those that only a later state of the job offers.
	Asking []Verb
	Tabs   []Tab
	Banner *Banner

	Summary    *JobSummary
	Graph      *Graph
	JSON       *JSONView
	Events     []EventLine
	Deliveries []DeliveryLine // nil on the other tabs
	// Empty stands in for a tab without content.
	Empty *Empty
}

// JobHead is the head of a job's page; the stream keeps it current.
type JobHead struct {
	ID, Short   string
	State       State
	Workflow    string
	Version     string
	WorkflowURL string
	Tenant      string
	When        string // "finished", "runs for", "waits for"
	At          Time
	Attempts    string
	Simulated   bool
}

// JobSummary is the first tab.
type JobSummary struct {
	ID        string
	Live      *JobLive // while it is under way
	Waiting   *Waiting // while it waits
	Failure   *Failure
	Title     string // "44.4 s, from request to result"
	Trace     Trace
	Phases    []PhaseLine
	Attempts  []AttemptLine
	GivenBack *Folded // attempts that never ran
	// AttemptsAside is "2, at most 3 may fail".
	AttemptsAside string
	Log           *LogBox
	Outputs       Outputs
	WhyTitle      string
	Why           []WhyLine
	Inputs        []KV
	Media         []InputMedia
	Account       []KV
	Samples       []Sample
}

// JobLive is a job under way.
type JobLive struct {
	Progress Progress
	// Node is "KSampler 21/50", Right "6 of 11 nodes".
	Node  string
	Right string
	Sub   *Progress
	// Preview is the newest preview frame's address, "" for none.
	Preview     string
	PreviewNote string
	Stalled     string // why it looks stuck, "" when it does not
}

// Waiting is why a job waits.
type Waiting struct{ Position, Reason string }

// Failure is why a job ended without a result.
type Failure struct {
	State string // failed, expired, canceled
	Title string
	Text  string
	Code  string
	Nodes []NodeProblem
}

// NodeProblem is one error of a node.
type NodeProblem struct{ Node, Class, Message, Details string }

// PhaseLine is one part of a job's time. Nodes are shown when it is opened.
type PhaseLine struct {
	Key    string // accepted, waited, lost, loaded, executed, uploaded
	Label  string
	Detail string
	Value  string
	Open   bool
	Nodes  []NodeLine
	Cached *Folded // nodes that took no time
}

// NodeLine is one node's time.
type NodeLine struct{ ID, Label, X, Width, Value string }

// AttemptLine is one attempt.
type AttemptLine struct {
	State  State
	Title  string
	On     string
	Link   string
	Note   string
	Detail string
	Value  string
}

// LogBox is kept output of a process.
type LogBox struct {
	ID, Title string
	Lines     []LogLine
}

// Outputs are a job's results as they land.
type Outputs struct {
	Items []Output
	// All downloads everything, "" for fewer than two.
	All   string
	Aside string
	Note  string // what stands instead of items
}

// Output is one result. Kind is image, video, audio, text or file.
type Output struct {
	Kind      string
	Name      string
	URL       string
	Download  string
	Meta      string
	Alt       string
	Text      string // the beginning of a text
	Simulated bool
}

// WhyLine is one reason for or against a worker.
type WhyLine struct {
	State string
	Text  string
	Mid   bool
}

// InputMedia is one input medium.
type InputMedia struct{ Name, URL, Meta, Kind string }

// EventLine is one stored event.
type EventLine struct {
	Rev     string
	At      Time
	State   State
	Kind    string
	Message string
	Worker  string
}

// DeliveryLine is one webhook delivery.
type DeliveryLine struct {
	ID       string
	Event    string
	URL      string
	State    State
	Attempts string
	Next     *Time // the next try, nil for none
	Tries    []DeliveryTry
	Again    Verb
}

// DeliveryTry is one try of a delivery.
type DeliveryTry struct {
	Number, Status, Latency, Error, Answer string
	At                                     Time
}

// JSONView is a document to read and copy.
type JSONView struct{ Title, Text, Download string }
