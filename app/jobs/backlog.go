package jobs

import "sync/atomic"

// backlog knows whether a job may be waiting, without a look at the queue. A job counts from the moment after its commit,
// and those of suspended tenants do not.
type backlog struct {
	grown atomic.Uint64 // how often something happened that may have left a job waiting
	clear atomic.Uint64 // the grown up to which all had their places
}

// grow says that a job waits, or may.
func (b *backlog) grow() { b.grown.Add(1) }

// count is to be read before the queue is, for placed.
func (b *backlog) count() uint64 { return b.grown.Load() }

// placed says that all that waited when count was read have their places.
func (b *backlog) placed(count uint64) { b.clear.Store(count) }

// empty reports that nothing waits.
func (b *backlog) empty() bool { return b.clear.Load() == b.grown.Load() }
