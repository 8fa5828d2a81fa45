package generator

import (
	"context"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/store"
)

// Each block contains the positions for about leaseTime, but at least leaseMin and at most leaseMax positions. Two
// blocks are leased in advance, because it may take two seconds until a lease is durable.
const (
	leaseTime = 2 * time.Second
	leaseMin  = 128
	leaseMax  = 1 << 17
)

// block is a range [first, end) of leased positions.
type block struct{ first, end int64 }

// leaser leases positions in the sequence of plates and draws before they are needed. All generators of the
// same type share the sequence. A lease reserves a block of positions for one of them. The leaser uses a block
// only after its lease is durable. If it used the block earlier, a restart of the store could lease the same
// positions to another generator.
type leaser struct {
	steps   *steps
	counter store.Counter
	// rate returns the number of positions that are currently needed per second.
	rate   func() float64
	blocks chan block
	// current is the leased block from which positions are taken. Only the goroutine that calls next and peek accesses
	// it.
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
			return // ctx has ended: lease retries on any other error
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
	err := l.steps.run(ctx, 0, "lease sequence numbers", func(ctx context.Context) (err error) {
		first, err = l.steps.store.Lease(ctx, l.counter, size)
		return err
	})
	return block{first: first, end: first + int64(size)}, err
}

// peek returns the next position without using it up. If no position is leased, it waits for a lease.
func (l *leaser) peek(ctx context.Context) (int64, error) {
	for l.current.first == l.current.end {
		select {
		case l.current = <-l.blocks:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait until the store leases positions: %w", ctx.Err())
		}
	}
	return l.current.first, nil
}

// next returns the next position and uses it up.
func (l *leaser) next(ctx context.Context) (int64, error) {
	position, err := l.peek(ctx)
	if err == nil {
		l.current.first++
	}
	return position, err
}
