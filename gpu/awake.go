package gpu

import (
	"context"
	"sync"
	"time"
)

const (
	// awakeEvery is how often the clock notes that this process runs, and awakeGap what it counts at most for the time
	// between two notes.
	awakeEvery = 500 * time.Millisecond
	awakeGap   = time.Second
)

// awakeClock stands still while this process does: on a host that was suspended, a virtual machine that was moved, under
// a debugger. What an engine did not say meanwhile is no silence of the engine.
type awakeClock struct {
	now func() time.Time

	mu    sync.Mutex
	noted time.Time // when now was last noted
	at    time.Time // what this clock showed then
}

func newAwakeClock(now func() time.Time) *awakeClock {
	at := now()
	return &awakeClock{now: now, noted: at, at: at}
}

// Now is the time that this process has run, as a time to subtract from others of this clock.
func (c *awakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	c.at = c.at.Add(min(max(0, now.Sub(c.noted)), awakeGap))
	c.noted = now
	return c.at
}

// run keeps the clock going until ctx ends.
func (c *awakeClock) run(ctx context.Context) {
	tick := time.NewTicker(awakeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.Now()
		}
	}
}
