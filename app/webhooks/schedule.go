package webhooks

import (
	"math/rand/v2"
	"time"
)

// MaxAttempts is how often a message is tried before it counts as failed: 27 h and 35 min after the first try, so
// that an endpoint may be down for a day.
const MaxAttempts = 9

// maxAsked is the longest pause that an endpoint may ask for by Retry-After: the schedule's own longest.
const maxAsked = 10 * time.Hour

// pauses are the waits after each attempt but the last. The first three attempts come quickly, as the guide promises;
// then it is the schedule that Standard Webhooks suggest.
func pauses() [MaxAttempts - 1]time.Duration {
	return [...]time.Duration{
		5 * time.Second, 25 * time.Second, 5 * time.Minute, 30 * time.Minute,
		2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
	}
}

// pauseAfter is how long to wait after that many attempts; ok is false when there is no next one. Up to a tenth is added
// by chance, so that what failed together does not come back together.
func pauseAfter(attempts int) (pause time.Duration, ok bool) {
	if attempts < 1 || attempts >= MaxAttempts {
		return 0, false
	}
	pause = pauses()[attempts-1]
	return pause + rand.N(pause/10+1), true
}
