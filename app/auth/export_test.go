package auth

// TracesForTest is how many names the larger ledger remembers.
func TracesForTest(t *Throttle) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(len(t.addresses.traces), len(t.emails.traces))
}
