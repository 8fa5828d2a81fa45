package generator

import (
	"context"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	// commitBatch bounds the events of one confirmation, so that no step holds the store up for long.
	commitBatch = 512
	// commitInterval is the time between two commits. It gathers events, as plates do not become available
	// for their exit that soon anyway: a commit costs the store the same for one event as for a hundred.
	commitInterval = 25 * time.Millisecond
)

// committer tells the store which events of a partition the broker has confirmed, and forgets them once
// the store durably knows.
type committer struct {
	steps     *steps
	run       string
	eventType event.Type
	partition int
	maxStay   func() time.Duration
	tracker   *tracker
	events    []store.Published
}

// register makes the run known to the store, so that an audit finds what is published from now on.
func (c *committer) register(ctx context.Context) error {
	return c.steps.take(ctx, c.partition, "register the run", func(ctx context.Context) error {
		_, err := c.steps.store.Confirm(ctx, c.confirmation(0, nil))
		return err
	})
}

// commit keeps the store up to date until ctx ends or, once stopping is closed, until nothing is left to
// be confirmed. It fails when the store lost what was durable.
func (c *committer) commit(ctx context.Context, stopping <-chan struct{}) error {
	interval := time.NewTimer(0)
	defer interval.Stop()
	for stopped := false; ; {
		durable, ready, next := c.tracker.marks()
		if stopped && durable == next {
			return nil
		}
		// Either there is something to do, and the interval is waited for, or the other way round.
		var moved <-chan struct{}
		var elapsed <-chan time.Time
		if durable == ready {
			moved = c.tracker.moved
		} else {
			elapsed = interval.C
		}
		select {
		case <-moved:
		case <-elapsed:
			if err := c.confirmReady(ctx); err != nil {
				return err
			}
			interval.Reset(commitInterval)
		case <-stopping:
			stopped, stopping = true, nil
			interval.Reset(0)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// confirmReady confirms what is ready and waits until that is durable.
func (c *committer) confirmReady(ctx context.Context) error {
	var confirmed int64
	err := c.steps.take(ctx, c.partition, "confirm events", func(ctx context.Context) (err error) {
		confirmed, err = c.confirmOnce(ctx)
		return err
	})
	if err == nil {
		c.tracker.forget(confirmed)
	}
	return err
}

// confirmOnce confirms what is ready, batch by batch, from the durable watermark on. What the store has
// already it passes over. It returns the watermark that the store has then.
func (c *committer) confirmOnce(ctx context.Context) (int64, error) {
	durable, ready, _ := c.tracker.marks()
	next := durable
	for next < ready {
		c.events = c.tracker.confirmed(c.events[:0], next, min(ready, next+commitBatch))
		stands, err := c.steps.store.Confirm(ctx, c.confirmation(next, c.events))
		switch {
		case err != nil:
			return 0, err
		case stands < durable || stands > ready:
			return 0, finalError{fmt.Errorf("the store has watermark %d of run %s, which must lie between %d and %d: "+
				"it lost durable data, or another process uses the run; start the generator again for a new run",
				stands, c.run, durable, ready)}
		case stands <= next:
			return 0, fmt.Errorf("the store's watermark went back to %d: %w", stands, store.ErrRolledBack)
		}
		next = stands
	}
	return next, nil
}

func (c *committer) confirmation(from int64, events []store.Published) store.Confirmation {
	return store.Confirmation{
		Run:       c.run,
		Type:      c.eventType,
		Partition: c.partition,
		From:      from,
		Events:    events,
		MaxStay:   c.maxStay(),
	}
}
