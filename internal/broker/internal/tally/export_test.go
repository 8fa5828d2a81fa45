package tally

// Waiting is the number of waits under way.
func (t *Tally) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiters)
}
