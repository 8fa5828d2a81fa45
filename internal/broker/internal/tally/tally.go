// Package tally counts the unconfirmed messages of a broker client.
package tally

import (
	"context"
	"slices"
	"sync"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Tally counts messages. The zero Tally is ready to use. A Tally is safe for concurrent use.
type Tally struct {
	mu          sync.Mutex
	accepted    uint64
	unconfirmed int
	waiters     []*waiter
}

// waiter represents a call of Wait. The call returns when all messages with numbers up to upTo are confirmed.
type waiter struct {
	upTo      uint64
	remaining int
	done      chan struct{}
}

// Accept counts a message as accepted and returns its number.
func (t *Tally) Accept() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.accepted++
	t.unconfirmed++
	return t.accepted
}

// Confirm counts the message with the given number as confirmed. It must be called exactly once per number.
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

// Wait waits until every message accepted before the call is confirmed. It returns the error of ctx if ctx ends first,
// and broker.ErrClosed if the Go channel named closed is closed first.
func (t *Tally) Wait(ctx context.Context, closed <-chan struct{}) error {
	w := t.register()
	if w == nil {
		return nil
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		t.unregister(w)
		return ctx.Err()
	case <-closed:
		t.unregister(w)
		return broker.ErrClosed
	}
}

// register adds a waiter for the messages accepted so far. It returns nil if all of these messages are confirmed.
func (t *Tally) register() *waiter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unconfirmed == 0 {
		return nil
	}
	w := &waiter{upTo: t.accepted, remaining: t.unconfirmed, done: make(chan struct{})}
	t.waiters = append(t.waiters, w)
	return w
}

func (t *Tally) unregister(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiters = slices.DeleteFunc(t.waiters, func(other *waiter) bool { return other == w })
}
