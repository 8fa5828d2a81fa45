package generator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/parking-operator/parking-operator/internal/backoff"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Store contains the methods of the store that a generator uses.
type Store interface {
	store.Generators
	// CountStarved sets the number of exits that a generator process has not published since its start because no plate
	// was available.
	CountStarved(ctx context.Context, run string, total int64) error
}

// The delay between two attempts of a store operation starts at firstBackoff and doubles up to lastBackoff.
const (
	firstBackoff = 10 * time.Millisecond
	lastBackoff  = time.Second
)

// steps executes operations in the store. It repeats each step until its effects are durable: they then survive a crash
// of the store's server.
type steps struct {
	store Store
	log   *slog.Logger
	// latency is how long a change in the store may take to become durable.
	latency time.Duration
}

// finalError is an error that a retry cannot fix.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// errNoEffect means that an operation changed nothing in the store that must become durable.
var errNoEffect = errors.New("the operation had no effect")

// run repeats the function step until the effects of the function are durable, so the function must be idempotent. run
// fails only if ctx ends or the function returns a finalError.
func (s *steps) run(ctx context.Context, partition int, name string, step func(context.Context) error) error {
	failed := false
	retry := backoff.Backoff{First: firstBackoff, Last: lastBackoff}
	for {
		err := s.attempt(ctx, partition, step)
		switch {
		case err == nil:
			if failed {
				s.log.Info("Store operation of a generator succeeded after a retry", "operation", name, "partition", partition)
			}
			return nil
		case errors.As(err, new(finalError)) || ctx.Err() != nil:
			return fmt.Errorf("%s in partition %d: %w", name, partition, err)
		case errors.Is(err, store.ErrRolledBack):
			s.log.Info("Store restarted, repeating the operation", "operation", name, "partition", partition)
		case errors.Is(err, store.ErrUnavailable): // only at debug level, because the store logs its own outages
			s.log.Debug("Store operation of a generator failed, retrying", "operation", name, "partition", partition, "error", err)
		case !failed:
			failed = true
			s.log.Warn("Store operation of a generator failed, retrying until it succeeds", "operation", name, "partition", partition, "error", err)
		}
		if err := retry.Wait(ctx, 0); err != nil {
			return fmt.Errorf("%s in partition %d: %w", name, partition, err)
		}
	}
}

// attempt executes the step once, and waits until its effects are durable. It does not wait if the step returns
// errNoEffect.
func (s *steps) attempt(ctx context.Context, partition int, step func(context.Context) error) error {
	mark, err := s.store.Mark(ctx, partition)
	if err != nil {
		return err
	}
	switch err := step(ctx); {
	case errors.Is(err, errNoEffect):
		return nil
	case err != nil:
		return err
	}
	return s.store.WaitDurable(ctx, partition, mark)
}
