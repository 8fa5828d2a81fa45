package generator

import (
	"context"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	// commitBatch is the maximum number of events that the committer records in one operation, so that no
	// operation blocks the store for long.
	commitBatch = 512
	// commitInterval is the time between two operations that record confirmed events: recording a hundred events costs
	// about as much as recording one.
	commitInterval = 100 * time.Millisecond
)

// committer records in the store which events of one partition the broker has confirmed.
type committer struct {
	steps     *steps
	run       string
	eventType event.Type
	partition int
	maxStay   func() time.Duration
	tracker   *tracker
	events    []store.Published
}

// register records this generator process in the store. Call register before the process publishes its first event, so
// that an audit finds every event of the process.
func (c *committer) register(ctx context.Context) error {
	return c.steps.run(ctx, c.partition, "register the run", func(ctx context.Context) error {
		_, err := c.steps.store.Confirm(ctx, c.confirmation(0, nil))
		return err
	})
}

// commit records confirmed events until ctx ends or, once stopping is closed, until all events are recorded. It fails
// if the store has lost durable data.
func (c *committer) commit(ctx context.Context, stopping <-chan struct{}) error {
	interval := time.NewTimer(0)
	defer interval.Stop()
	for stopped := false; ; {
		durable, ready, next := c.tracker.marks()
		if stopped && durable == next {
			return nil
		}
		// If there are events to record, wait for the interval. Otherwise, wait until there are such events.
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
			// The interval delays plates on their way into the pool. This does no harm, because exits first use the
			// plates that entered earliest.
			interval.Reset(commitInterval)
		case <-stopping:
			stopped, stopping = true, nil
			interval.Reset(0)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// confirmReady records all events before the first event that the broker has not confirmed. It waits until the records
// are durable.
func (c *committer) confirmReady(ctx context.Context) error {
	var confirmed int64
	err := c.steps.run(ctx, c.partition, "confirm events", func(ctx context.Context) (err error) {
		confirmed, err = c.confirmOnce(ctx)
		return err
	})
	if err == nil {
		c.tracker.advanceDurable(confirmed)
	}
	return err
}

// confirmOnce records, in batches, the ready events that are not durably recorded. It returns the number of events that
// the store has now recorded.
func (c *committer) confirmOnce(ctx context.Context) (int64, error) {
	durable, ready, _ := c.tracker.marks()
	next := durable
	for next < ready {
		c.events = c.tracker.confirmed(c.events[:0], next, min(ready, next+commitBatch))
		watermark, err := c.steps.store.Confirm(ctx, c.confirmation(next, c.events))
		switch {
		case err != nil:
			return 0, err
		case watermark < durable || watermark > ready:
			return 0, finalError{fmt.Errorf("the store has lost durable data, or another process uses run %s: "+
				"restart the generator to begin a new run (the watermark in the store is %d, want %d to %d)",
				c.run, watermark, durable, ready)}
		case watermark <= next:
			return 0, fmt.Errorf("the watermark of the store went back to %d: %w", watermark, store.ErrRolledBack)
		}
		next = watermark
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
