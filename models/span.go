package models

import "time"

// Span is a stretch of a worker's time. Spans of one worker follow one another without gaps, oldest first; the last one
// is still going on when To is zero.
type Span struct {
	From time.Time
	To   time.Time
	Kind SpanKind
}

// SpanKind is what a worker did in a span of time.
type SpanKind = string

const (
	SpanSampling   SpanKind = "sampling"   // executes a prompt, models in place
	SpanLoading    SpanKind = "loading"    // executes a prompt, loads models for it
	SpanCollecting SpanKind = "collecting" // executes nothing; outputs of the last prompt are read
	SpanIdle       SpanKind = "idle"       // up, nothing to do
	SpanDown       SpanKind = "down"       // no engine answers although one should
	SpanOff        SpanKind = "off"        // stopped, disabled: nobody wants it up
)
