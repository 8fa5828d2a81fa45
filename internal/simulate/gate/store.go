package gate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Store returns a store whose calls all pass through a gate. If the gate rejects a call, the error is
// store.ErrUnavailable.
func Store(inner store.Store, g *Gate) store.Store { return &gatedStore{Store: inner, gate: g} }

// gatedStore passes the calls to a store through a gate. The embedded store provides Version and Close, which need no
// gate.
type gatedStore struct {
	store.Store
	gate *Gate
}

// ask calls a store method that returns a result. The call passes through the Gate of the store, so that faults can be
// injected.
func ask[R any](ctx context.Context, s *gatedStore, call func() (R, error)) (result R, err error) {
	err = s.tell(ctx, func() (err error) {
		result, err = call()
		return err
	})
	if err != nil {
		var none R
		return none, err
	}
	return result, nil
}

// tell calls a store method that returns no result. The call passes through the Gate of the store, so that faults can
// be injected.
func (s *gatedStore) tell(ctx context.Context, call func() error) error {
	return asStoreError(s.gate.call(ctx, call))
}

// asStoreError returns the error that a real store would return. If a Gate has rejected the call or cut its connection,
// the result wraps store.ErrUnavailable.
func asStoreError(err error) error {
	if errors.Is(err, errCut) || errors.Is(err, errLost) || errors.Is(err, errDead) {
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

func (s *gatedStore) RecordEntry(ctx context.Context, step store.EntryStep) (store.Result, error) {
	return ask(ctx, s, func() (store.Result, error) { return s.Store.RecordEntry(ctx, step) })
}

func (s *gatedStore) RecordExit(ctx context.Context, step store.ExitStep) (store.ExitResult, error) {
	return ask(ctx, s, func() (store.ExitResult, error) { return s.Store.RecordExit(ctx, step) })
}

func (s *gatedStore) Lease(ctx context.Context, counter store.Counter, n int) (int64, error) {
	return ask(ctx, s, func() (int64, error) { return s.Store.Lease(ctx, counter, n) })
}

func (s *gatedStore) Confirm(ctx context.Context, c store.Confirmation) (int64, error) {
	return ask(ctx, s, func() (int64, error) { return s.Store.Confirm(ctx, c) })
}

func (s *gatedStore) Claim(ctx context.Context, c store.Claim) ([]store.Plate, error) {
	return ask(ctx, s, func() ([]store.Plate, error) { return s.Store.Claim(ctx, c) })
}

func (s *gatedStore) PoolSize(ctx context.Context) (int64, error) {
	return ask(ctx, s, func() (int64, error) { return s.Store.PoolSize(ctx) })
}

func (s *gatedStore) Mark(ctx context.Context, partition int) (store.Mark, error) {
	return ask(ctx, s, func() (store.Mark, error) { return s.Store.Mark(ctx, partition) })
}

func (s *gatedStore) Counts(ctx context.Context) (store.Counts, error) {
	return ask(ctx, s, func() (store.Counts, error) { return s.Store.Counts(ctx) })
}

func (s *gatedStore) Runs(ctx context.Context) ([]store.Run, error) {
	return ask(ctx, s, func() ([]store.Run, error) { return s.Store.Runs(ctx) })
}

func (s *gatedStore) Chunk(ctx context.Context, r store.Run, index int64) (store.Chunk, error) {
	return ask(ctx, s, func() (store.Chunk, error) { return s.Store.Chunk(ctx, r, index) })
}

func (s *gatedStore) Outbox(ctx context.Context) (int64, error) {
	return ask(ctx, s, func() (int64, error) { return s.Store.Outbox(ctx) })
}

func (s *gatedStore) Dataset(ctx context.Context) (store.Dataset, error) {
	return ask(ctx, s, func() (store.Dataset, error) { return s.Store.Dataset(ctx) })
}

func (s *gatedStore) ReadTimeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	return ask(ctx, s, func() ([]timeline.Row, error) { return s.Store.ReadTimeline(ctx, from, to) })
}

func (s *gatedStore) SettleSummary(ctx context.Context, partition int, exitID string) (store.Result, error) {
	return ask(ctx, s, func() (store.Result, error) { return s.Store.SettleSummary(ctx, partition, exitID) })
}

func (s *gatedStore) RecordDeadLetter(ctx context.Context, partition int, key string) error {
	return s.tell(ctx, func() error { return s.Store.RecordDeadLetter(ctx, partition, key) })
}

func (s *gatedStore) Release(ctx context.Context, c store.Claim, plates []store.Plate) error {
	return s.tell(ctx, func() error { return s.Store.Release(ctx, c, plates) })
}

func (s *gatedStore) WaitDurable(ctx context.Context, partition int, mark store.Mark) error {
	return s.tell(ctx, func() error { return s.Store.WaitDurable(ctx, partition, mark) })
}

func (s *gatedStore) CountStarved(ctx context.Context, run string, total int64) error {
	return s.tell(ctx, func() error { return s.Store.CountStarved(ctx, run, total) })
}

func (s *gatedStore) AppendTimeline(ctx context.Context, process string, rows []timeline.Row) error {
	return s.tell(ctx, func() error { return s.Store.AppendTimeline(ctx, process, rows) })
}

func (s *gatedStore) CompactTimeline(ctx context.Context, now time.Time) error {
	return s.tell(ctx, func() error { return s.Store.CompactTimeline(ctx, now) })
}

func (s *gatedStore) Ping(ctx context.Context) error {
	return asStoreError(s.gate.ping(ctx, func() error { return s.Store.Ping(ctx) }))
}

func (s *gatedStore) Purge(ctx context.Context) error {
	return s.tell(ctx, func() error { return s.Store.Purge(ctx) })
}
