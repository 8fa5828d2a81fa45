package generator

import (
	"context"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/store"
)

// A block of positions lasts for about leaseTime; two blocks are kept ahead. That covers the wait until a
// lease is durable, which may take two seconds.
const (
	leaseTime = 2 * time.Second
	leaseMin  = 128
	leaseMax  = 1 << 17
)

// block is a range of leased positions: [first, end).
type block struct{ first, end int64 }

// leaser leases blocks of positions ahead of their use. A position is used only when its lease is durable:
// otherwise a restart of the store could hand it out again.
type leaser struct {
	steps   *steps
	counter store.Counter
	// rate returns the present rate, in positions per second.
	rate   func() float64
	blocks chan block
	// current is the block in use. It belongs to the goroutine that calls next.
	current block
}

func newLeaser(s *steps, counter store.Counter, rate func() float64) *leaser {
	return &leaser{steps: s, counter: counter, rate: rate, blocks: make(chan block, 1)}
}

// run leases blocks until ctx ends.
func (l *leaser) run(ctx context.Context) {
	for {
		b, err := l.lease(ctx)
		if err != nil {
			return // ctx has ended: a lease that fails is tried until then
		}
		select {
		case l.blocks <- b:
		case <-ctx.Done():
			return
		}
	}
}

func (l *leaser) lease(ctx context.Context) (block, error) {
	size := int(min(max(l.rate()*leaseTime.Seconds(), leaseMin), leaseMax))
	var first int64
	err := l.steps.take(ctx, 0, "lease positions", func(ctx context.Context) (err error) {
		first, err = l.steps.store.Lease(ctx, l.counter, size)
		return err
	})
	return block{first: first, end: first + int64(size)}, err
}

// peek returns the next position without using it. It waits for a lease if it must.
func (l *leaser) peek(ctx context.Context) (int64, error) {
	for l.current.first == l.current.end {
		select {
		case l.current = <-l.blocks:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for a lease of positions: %w", ctx.Err())
		}
	}
	return l.current.first, nil
}

// next uses the next position.
func (l *leaser) next(ctx context.Context) (int64, error) {
	position, err := l.peek(ctx)
	if err == nil {
		l.current.first++
	}
	return position, err
}
