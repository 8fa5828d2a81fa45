package tally

// Waiting returns the number of Wait calls that have not returned.
func (t *Tally) Waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.waiters)
}

// Unconfirmed returns the number of messages that are accepted and not yet confirmed.
func (t *Tally) Unconfirmed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unconfirmed
}
