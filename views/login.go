package views

// Login is the sign-in page.
type Login struct {
	Theme   string
	Email   string
	Problem string // what was wrong with the last try
	Next    string // where to go after
	Env     Env
	Version string
	// Field is the drawing beside the form: strips of made-up work.
	Field []Trace
}

// ErrorPage says that a page could not be shown.
type ErrorPage struct {
	Status  string
	Empty   Empty
	Theme   string
	Env     Env
	Version string
	Field   []Trace
}
