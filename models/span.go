package models

import "time"

// Span is a stretch of a worker's time. Spans of one worker follow one another without gaps, oldest first; the last one
// is still going on when To is zero.
type Span struct {
	From time.Time
	To   time.Time
	// Kind is one of the Span kinds.
	Kind string
}

// Kinds of spans.
const (
	SpanSampling   = "sampling"   // executes a prompt, models in place
	SpanLoading    = "loading"    // executes a prompt, loads models for it
	SpanCollecting = "collecting" // executes nothing; outputs of the last prompt are read
	SpanIdle       = "idle"       // up, nothing to do
	SpanDown       = "down"       // no engine answers although one should
	SpanOff        = "off"        // stopped, disabled: nobody wants it up
)
