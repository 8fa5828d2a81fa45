package tally

// Waiting returns the number of Wait calls that have not returned.
func (t *Tally) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiters)
}
