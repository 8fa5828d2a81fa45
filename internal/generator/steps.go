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

// Store is what generators need of the store.
type Store interface {
	store.Generators
	// CountStarved records how many matched draws of the run found the pool empty so far.
	CountStarved(ctx context.Context, run string, total int64) error
}

// The wait between two attempts to take a step doubles from the first to the last.
const (
	firstBackoff = 10 * time.Millisecond
	lastBackoff  = time.Second
)

// steps takes steps in the store so that they survive a crash of its server.
type steps struct {
	store Store
	log   *slog.Logger
}

// finalError is a failure of a step that repeating it would not mend.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// take takes a step in the partition, which must be idempotent, again and again until its effects survive
// a crash of the store's server. what names the step in logs and errors. It fails only when ctx ends or
// the step does with a finalError.
func (s *steps) take(ctx context.Context, partition int, what string, step func(context.Context) error) error {
	failed := false
	pause := backoff.Backoff{First: firstBackoff, Last: lastBackoff}
	for {
		err := s.attempt(ctx, partition, step)
		switch {
		case err == nil:
			if failed {
				s.log.Info("a step that had failed is taken", "step", what, "partition", partition)
			}
			return nil
		case errors.As(err, new(finalError)) || ctx.Err() != nil:
			return fmt.Errorf("%s in partition %d: %w", what, partition, err)
		case errors.Is(err, store.ErrRolledBack):
			s.log.Info("the store restarted, taking a step again", "step", what, "partition", partition)
		case errors.Is(err, store.ErrUnavailable): // which the store logs itself
			s.log.Debug("a step in the store failed and is tried until it succeeds", "step", what, "partition", partition, "error", err)
		case !failed:
			failed = true
			s.log.Warn("a step in the store failed and is tried until it succeeds",
				"step", what, "partition", partition, "error", err)
		}
		if err := pause.Wait(ctx, 0); err != nil {
			return fmt.Errorf("%s in partition %d: %w", what, partition, err)
		}
	}
}

// attempt takes the step once and waits until its effects are durable.
func (s *steps) attempt(ctx context.Context, partition int, step func(context.Context) error) error {
	mark, err := s.store.Mark(ctx, partition)
	if err != nil {
		return err
	}
	if err := step(ctx); err != nil {
		return err
	}
	return s.store.WaitDurable(ctx, partition, mark)
}
