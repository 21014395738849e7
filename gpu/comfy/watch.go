package comfy

import (
	"context"
	"math/rand/v2"
	"time"

	"comfyfleet/gpu"
)

// steady is how long a connection must have held for the next dial to come soon again.
const steady = 10 * time.Second

// Watch holds a WebSocket under clientID until ctx ends and then returns its error. EventConnected comes when the engine
// has greeted, that is when it has registered the socket: a prompt submitted afterwards is heard from its start. After
// a loss nothing that was missed is replayed, and the next dial waits until the old connection is closed and a pause
// is over: the engine drops the new socket when it notices the end of the old one later. That can still happen (a
// half-open connection), so a caller that hears nothing of a running prompt asks Queue and History, and ends this Watch
// and starts another.
func (c *Client) Watch(ctx context.Context, clientID string, sink func(gpu.Event)) error {
	pause := c.opts.RedialMin
	for ctx.Err() == nil {
		began := time.Now()
		greeted := c.listen(ctx, clientID, sink)
		if ctx.Err() != nil {
			break
		}
		if greeted {
			sink(gpu.Event{Kind: gpu.EventDisconnected, At: c.opts.Now()})
		}
		if greeted && time.Since(began) > steady {
			pause = c.opts.RedialMin
		}
		if !sleep(ctx, pause/2+rand.N(pause/2+1)) { // spread: all workers of a host come back together
			break
		}
		pause = min(2*pause, c.opts.RedialMax)
	}
	return ctx.Err()
}

// sleep waits, and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
