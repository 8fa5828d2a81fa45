// Package tally counts the messages that a publisher has taken and those that its broker has confirmed,
// so that a flush waits for the messages taken before it and for no others.
package tally

import (
	"context"
	"slices"
	"sync"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Tally is safe for concurrent use. The zero value counts from nothing.
type Tally struct {
	mu          sync.Mutex
	taken       uint64
	unconfirmed int
	waiters     []*waiter
}

// waiter waits until the messages up to a number have been confirmed.
type waiter struct {
	upTo      uint64
	remaining int
	done      chan struct{}
}

// Take counts a message as taken and returns its number.
func (t *Tally) Take() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken++
	t.unconfirmed++
	return t.taken
}

// Confirm counts the message of that number as confirmed. It is to be called once for each number.
func (t *Tally) Confirm(number uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unconfirmed--
	if len(t.waiters) > 0 {
		t.notify(number)
	}
}

func (t *Tally) notify(number uint64) {
	t.waiters = slices.DeleteFunc(t.waiters, func(w *waiter) bool {
		if number <= w.upTo {
			w.remaining--
		}
		if w.remaining > 0 {
			return false
		}
		close(w.done)
		return true
	})
}

// Unconfirmed is the number of messages that are taken and not confirmed yet.
func (t *Tally) Unconfirmed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unconfirmed
}

// Wait waits until every message taken so far is confirmed. It returns the error of ctx when that ends
// before, and broker.ErrClosed when closed does.
func (t *Tally) Wait(ctx context.Context, closed <-chan struct{}) error {
	w := t.register()
	if w == nil {
		return nil
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		t.forget(w)
		return ctx.Err()
	case <-closed:
		t.forget(w)
		return broker.ErrClosed
	}
}

// register returns nil when there is nothing to wait for.
func (t *Tally) register() *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unconfirmed == 0 {
		return nil
	}
	w := &waiter{upTo: t.taken, remaining: t.unconfirmed, done: make(chan struct{})}
	t.waiters = append(t.waiters, w)
	return w
}

func (t *Tally) forget(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiters = slices.DeleteFunc(t.waiters, func(other *waiter) bool { return other == w })
}
