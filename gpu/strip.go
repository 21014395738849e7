package gpu

import (
	"sync"
	"time"

	"comfyfleet/models"
)

const (
	stripFor = time.Hour
	maxSpans = 4096 // of short jobs; older ones go first
)

// strip is what a worker did in the last hour.
type strip struct {
	mu    sync.Mutex
	spans []models.Span
}

// mark says what the worker does from now on.
func (s *strip) mark(k models.SpanKind, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spans); n > 0 {
		last := &s.spans[n-1]
		if last.Kind == k {
			return
		}
		last.To = now
		if !now.After(last.From) {
			s.spans = s.spans[:n-1] // it lasted no time
		}
	}
	s.extend(k, now)
}

// extend adds a span, joins it to an equal one before it, and drops what is too old.
func (s *strip) extend(k models.SpanKind, now time.Time) {
	if n := len(s.spans); n > 0 && s.spans[n-1].Kind == k {
		s.spans[n-1].To = time.Time{}
		return
	}
	s.spans = append(s.spans, models.Span{Kind: k, From: now})
	drop := max(0, len(s.spans)-maxSpans)
	for drop < len(s.spans)-1 && now.Sub(s.spans[drop].To) > stripFor {
		drop++
	}
	s.spans = s.spans[drop:]
}

// since answers the spans that touch the time from t on, oldest first, cut at t.
func (s *strip) since(t time.Time) []models.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []models.Span
	for _, p := range s.spans {
		if !p.To.IsZero() && !p.To.After(t) {
			continue
		}
		if p.From.Before(t) {
			p.From = t
		}
		out = append(out, p)
	}
	return out
}
