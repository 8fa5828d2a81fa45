package generator

import (
	"context"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/store"
)

const (
	// leaseTime is how long a block of positions lasts, in addition to the latency of the store. leaseMin and leaseMax
	// limit the size of a block.
	leaseTime = 2 * time.Second
	leaseMin  = 128
	leaseMax  = 1 << 17
)

// block is a range [first, end) of leased positions.
type block struct{ first, end int64 }

// leaser leases blocks of positions, because all generators of the same type share one sequence of positions; see
// package sequence.
type leaser struct {
	steps   *steps
	counter store.Counter
	// rate returns how many positions to lease per second.
	rate   func() float64
	blocks chan block // buffers a block, because it may take two seconds until the next lease is durable
	// current is the leased block from which positions are taken. Only the goroutine that calls next and peek may
	// access this field.
	current block
}

func newLeaser(s *steps, counter store.Counter, rate func() float64) *leaser {
	return &leaser{steps: s, counter: counter, rate: rate, blocks: make(chan block, 1)}
}

// run leases one block of positions after another, until ctx ends.
func (l *leaser) run(ctx context.Context) {
	for {
		b, err := l.lease(ctx)
		if err != nil {
			return // lease fails only when ctx has ended
		}
		select {
		case l.blocks <- b:
		case <-ctx.Done():
			return
		}
	}
}

func (l *leaser) lease(ctx context.Context) (block, error) {
	size := int(min(max(l.rate()*(leaseTime+l.steps.latency).Seconds(), leaseMin), leaseMax))
	var first int64
	// If a crash undid the lease, the store would lease the positions again, so wait until the lease is durable.
	err := l.steps.run(ctx, 0, "lease positions in the sequence of events", func(ctx context.Context) (err error) {
		first, err = l.steps.store.Lease(ctx, l.counter, size)
		return err
	})
	return block{first: first, end: first + int64(size)}, err
}

// peek returns the next position without using it up. If no position is leased, peek waits for a lease.
func (l *leaser) peek(ctx context.Context) (int64, error) {
	for l.current.first == l.current.end {
		select {
		case l.current = <-l.blocks:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait until the store leases positions in the sequence of events: %w", ctx.Err())
		}
	}
	return l.current.first, nil
}

// next returns the next position and advances to the following one.
func (l *leaser) next(ctx context.Context) (int64, error) {
	position, err := l.peek(ctx)
	if err == nil {
		l.current.first++
	}
	return position, err
}
