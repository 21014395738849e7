package auth

import (
	"math"
	"time"
)

const (
	// maxTraces bounds what one ledger remembers.
	maxTraces = 10_000
	// forgetAfter is how long failures count after the last one.
	forgetAfter = time.Hour
)

// ledger counts failures by name. The first ones are free; then the wait before the next try doubles from a second up
// to most. Its owner locks it.
type ledger struct {
	free   int
	most   time.Duration
	traces map[string]trace
}

// trace is what is remembered of one name.
type trace struct {
	failures int
	last     time.Time
}

// until is the time before which name must not try again; the zero time when it may.
func (l *ledger) until(name string, now time.Time) time.Time {
	tr := l.traces[name]
	if tr.failures == 0 || now.Sub(tr.last) >= forgetAfter {
		return time.Time{}
	}
	return tr.last.Add(l.wait(tr.failures))
}

func (l *ledger) wait(failures int) time.Duration {
	over := failures - l.free
	if over <= 0 {
		return 0
	}
	if over > 20 { // 2^20 s is beyond any most, and the shift below stays sane
		return l.most
	}
	return min(time.Second<<(over-1), l.most)
}

func (l *ledger) fail(name string, now time.Time) {
	tr, known := l.traces[name]
	if now.Sub(tr.last) >= forgetAfter {
		tr.failures = 0
	}
	if !known && len(l.traces) >= maxTraces {
		l.dropWeakest(now)
	}
	l.traces[name] = trace{failures: tr.failures + 1, last: now}
}

// forgive takes one failure back.
func (l *ledger) forgive(name string) {
	tr, ok := l.traces[name]
	if !ok {
		return
	}
	tr.failures--
	if tr.failures <= 0 {
		l.forget(name)
		return
	}
	l.traces[name] = tr
}

func (l *ledger) forget(name string) { delete(l.traces, name) }

// dropWeakest makes room: the forgotten go, else those with the fewest failures. A flood of made-up names, one failure
// each, therefore cannot push out the name that is being guessed.
func (l *ledger) dropWeakest(now time.Time) {
	weakest := math.MaxInt
	for name, tr := range l.traces {
		if now.Sub(tr.last) >= forgetAfter {
			delete(l.traces, name)
			continue
		}
		weakest = min(weakest, tr.failures)
	}
	if len(l.traces) < maxTraces {
		return
	}
	for name, tr := range l.traces {
		if tr.failures == weakest {
			delete(l.traces, name)
		}
	}
}
