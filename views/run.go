package views

// Run is the page that runs a workflow.
type Run struct {
	Shell
	Library []LibraryItem
	Form    RunForm
	Result  RunResult
	// Wrong says why a dropped file was not taken.
	Wrong string
}

// LibraryItem is one workflow to choose.
type LibraryItem struct {
	Slug, Title, Note, URL string
	Icon                   string
	Current                bool
	Find                   string // the words that find it
}

// RunForm is the form of one workflow.
type RunForm struct {
	Title   string
	Alias   string
	Version string
	Note    string // "12 nodes, from a file"
	Action  string
	Reset   string
	Fields  []Field
	Groups  []FieldGroup
	Tenants *Choice
	Problem string
	Submit  string
	// Disabled says why nothing can be run.
	Disabled string
	Hint     string
	CSRF     string
	// From is the job whose inputs fill the form, "" for none.
	From string
}

// FieldGroup is a titled, closed part of a form.
type FieldGroup struct {
	Title  string
	Open   bool
	Fields []Field
}

// Field is one parameter. Kind is text, line, integer, number, slider, seed, choice, switch or media.
type Field struct {
	Kind     string
	Name     string // the form's name of it
	ID       string
	Label    string
	Help     string
	Value    string
	Optional bool
	On       bool
	Min      string
	Max      string
	Step     string
	Options  []Option
	Count    string
	Problem  string
	Media    Media
}

// Media is a chosen or missing input file.
type Media struct {
	Field  string
	Label  string
	Accept string
	// Ref is what the form sends back for the chosen file, "" for none.
	Ref  string
	Name string
	Meta string
	// Preview is an address that shows it, "" for what cannot be shown; Kind is image, video or audio.
	Preview string
	Kind    string
	Problem string
	Upload  string // where a chosen file is sent
	Empty   string // the upload form's address that takes the file away
}

// RunResult is the job that the form started last.
type RunResult struct {
	ID      string
	Short   string
	URL     string
	State   State
	On      string
	For     *Time
	Cancel  *Verb
	Live    *JobLive
	Waiting *Waiting
	Failure *Failure
	Nodes   []RunNode
	Quick   *Folded // nodes that took no time worth a line
	Outputs Outputs
	Again   string
	Samples []Sample
	Latest  []Shot
	// Empty stands in for a result.
	Empty *Empty
}

// RunNode is one node of a finished run.
type RunNode struct{ State, Title, Note, Value string }
