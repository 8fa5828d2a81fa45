package generator

import (
	"context"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/store"
)

// A block contains the positions of about leaseTime. The leaser leases two blocks ahead, because a lease may
// take two seconds to become durable.
const (
	leaseTime = 2 * time.Second
	leaseMin  = 128
	leaseMax  = 1 << 17
)

// block is a range [first, end) of leased positions.
type block struct{ first, end int64 }

// leaser leases blocks of positions before they are needed. A lease reserves positions in the sequence of
// plates and draws that all generators of the type share. The leaser uses a position only after its lease is
// durable. Before that, a restart of the store could lease the same position to another generator.
type leaser struct {
	steps   *steps
	counter store.Counter
	// rate returns the current rate, in positions per second.
	rate   func() float64
	blocks chan block
	// current is the block in use. Only the goroutine that calls next accesses it.
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
			return // ctx has ended: steps retry a failed lease until then
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

// peek returns the next position without consuming it. It waits for a lease if necessary.
func (l *leaser) peek(ctx context.Context) (int64, error) {
	for l.current.first == l.current.end {
		select {
		case l.current = <-l.blocks:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait until the store leases sequence numbers: %w", ctx.Err())
		}
	}
	return l.current.first, nil
}

// next consumes the next position.
func (l *leaser) next(ctx context.Context) (int64, error) {
	position, err := l.peek(ctx)
	if err == nil {
		l.current.first++
	}
	return position, err
}
