// Package memory stores the state of a simulation in memory, for tests and simulations without Redis. Unless
// Config.Crashable is set, every effect counts as durable at once.
package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// errClosed is the cause of all errors after Close.
var errClosed = errors.New("the store is closed")

// Store is an in-memory implementation of store.Store. It is safe for concurrent use. Calls for different partitions do
// not block each other.
type Store struct {
	partitions []*partition
	timeline   *timelineBlocks
	closed     atomic.Bool
	// crashes is the number of simulated crashes so far. It is part of store.Mark.Epoch, so that WaitDurable detects a
	// crash.
	crashes atomic.Int64
}

var _ store.Store = (*Store)(nil)

// Config is the configuration of a store.
type Config struct {
	// Partitions is the number of partitions. A value below 1 counts as 1.
	Partitions int
	// Crashable makes the method Crash lose effects that WaitDurable has not made durable, and needs twice the
	// memory. Otherwise, every effect is durable at once.
	Crashable bool
}

// New returns an empty store.
func New(c Config) *Store { return newStore(c, store.VisitMargin) }

func newStore(c Config, visitMargin time.Duration) *Store {
	s := &Store{timeline: newTimelineBlocks()}
	for range max(1, c.Partitions) {
		s.partitions = append(s.partitions, newPartition(visitMargin, c.Crashable))
	}
	return s
}

// Crash simulates a crash of the server. Each partition keeps all durable effects and a number of the earliest other
// effects, which depends on the random number draw. WaitDurable then returns store.ErrRolledBack for earlier marks.
func (s *Store) Crash(draw uint64) {
	for _, p := range s.partitions {
		p.mu.Lock()
	}
	for i, p := range s.partitions {
		p.crash(numberOf(draw, i))
	}
	s.crashes.Add(1)
	for _, p := range s.partitions {
		p.mu.Unlock()
	}
}

// epoch returns an identifier of the simulated server process. The identifier changes with every crash.
func (s *Store) epoch() string { return "memory-" + strconv.FormatInt(s.crashes.Load(), 10) }

// partition returns the partition with the given index. Errors begin with doing, which describes the operation of the
// caller, such as "record an entry".
func (s *Store) partition(ctx context.Context, doing string, index int) (*partition, error) {
	if err := s.ready(ctx, doing); err != nil {
		return nil, err
	}
	if index < 0 || index >= len(s.partitions) {
		return nil, fmt.Errorf("%s: partition %d does not exist: the store has %d partitions", doing, index, len(s.partitions))
	}
	return s.partitions[index], nil
}

// ready returns an error if ctx has ended or the store is closed.
func (s *Store) ready(ctx context.Context, doing string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if s.closed.Load() {
		return fmt.Errorf("%s: %w: %w", doing, store.ErrUnavailable, errClosed)
	}
	return nil
}

// RecordEntry implements store.Processors.
func (s *Store) RecordEntry(ctx context.Context, e store.EntryStep) (store.Result, error) {
	p, err := s.partition(ctx, "record an entry", e.Partition)
	if err != nil {
		return "", err
	}
	now := time.Now()
	return do(p, func(s *state) store.Result { return s.recordEntry(e, now) }), nil
}

// RecordExit implements store.Processors.
func (s *Store) RecordExit(ctx context.Context, e store.ExitStep) (store.ExitResult, error) {
	p, err := s.partition(ctx, "record an exit", e.Partition)
	if err != nil {
		return store.ExitResult{}, err
	}
	now := time.Now()
	return do(p, func(s *state) store.ExitResult { return s.recordExit(e, now) }), nil
}

// SettleSummary implements store.Processors.
func (s *Store) SettleSummary(ctx context.Context, partition int, exitID string) (store.Result, error) {
	p, err := s.partition(ctx, "settle a summary", partition)
	if err != nil {
		return "", err
	}
	return do(p, func(s *state) store.Result { return s.settleSummary(exitID) }), nil
}

// RecordDeadLetter implements store.Processors.
func (s *Store) RecordDeadLetter(ctx context.Context, partition int, key string) error {
	p, err := s.partition(ctx, "count a dead letter", partition)
	if err != nil {
		return err
	}
	now := time.Now()
	p.change(func(s *state) { s.recordDeadLetter(key, now) })
	return nil
}

// Lease implements store.Generators.
func (s *Store) Lease(ctx context.Context, counter store.Counter, n int) (int64, error) {
	doing := fmt.Sprintf("lease %d positions of the counter %s", n, counter)
	if err := s.ready(ctx, doing); err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, fmt.Errorf("%s: a lease must cover at least 1 position", doing)
	}
	return do(s.partitions[0], func(s *state) int64 { return s.lease(counter, n) }), nil
}

// Confirm implements store.Generators.
func (s *Store) Confirm(ctx context.Context, c store.Confirmation) (int64, error) {
	p, err := s.partition(ctx, "confirm events", c.Partition)
	if err != nil {
		return 0, err
	}
	if p.durable != nil {
		// Copy the events: the method flush reads them after Confirm has returned. By then, the caller may have
		// changed its slice.
		c.Events = slices.Clone(c.Events)
	}
	return do(p, func(s *state) int64 { return s.confirm(c) }), nil
}

// Claim implements store.Generators.
func (s *Store) Claim(ctx context.Context, c store.Claim) ([]store.Plate, error) {
	p, err := s.partition(ctx, "claim plates", c.Partition)
	if err != nil || c.Limit < 1 {
		return nil, err
	}
	now := time.Now()
	return do(p, func(s *state) []store.Plate { return s.claim(c, now) }), nil
}

// Release implements store.Generators.
func (s *Store) Release(ctx context.Context, c store.Claim, plates []store.Plate) error {
	p, err := s.partition(ctx, "release plates", c.Partition)
	if err != nil {
		return err
	}
	now, plates := time.Now(), slices.Clone(plates)
	p.change(func(s *state) { s.release(c, plates, now) })
	return nil
}

// PoolSize implements store.Generators.
func (s *Store) PoolSize(ctx context.Context) (int64, error) {
	return s.sum(ctx, "count the available plates", func(s *state) int { return s.pool.len() })
}

// Outbox implements store.Ledger.
func (s *Store) Outbox(ctx context.Context) (int64, error) {
	return s.sum(ctx, "count the summaries in the outbox", func(s *state) int { return len(s.outbox) })
}

func (s *Store) sum(ctx context.Context, doing string, count func(*state) int) (int64, error) {
	if err := s.ready(ctx, doing); err != nil {
		return 0, err
	}
	var total int64
	for _, p := range s.partitions {
		total += int64(read(p, count))
	}
	return total, nil
}

// CountStarved implements store.Store.
func (s *Store) CountStarved(ctx context.Context, run string, total int64) error {
	if err := s.ready(ctx, "count the exits for which no plate was available"); err != nil {
		return err
	}
	s.partitions[0].change(func(s *state) { s.countStarved(run, total) })
	return nil
}

// Mark implements store.Durability. The mark changes with each simulated crash.
func (s *Store) Mark(ctx context.Context, partition int) (store.Mark, error) {
	if _, err := s.partition(ctx, "observe the store", partition); err != nil {
		return store.Mark{}, err
	}
	return store.Mark{Epoch: s.epoch()}, nil
}

// WaitDurable implements store.Durability. It makes all effects in the partition durable.
func (s *Store) WaitDurable(ctx context.Context, partition int, mark store.Mark) error {
	const doing = "wait until the store is durable"
	p, err := s.partition(ctx, doing, partition)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The epoch cannot change here, because Crash locks p.mu to change it.
	if mark.Epoch != s.epoch() {
		return fmt.Errorf("%s: %w", doing, store.ErrRolledBack)
	}
	p.flush()
	return nil
}

// Counts implements store.Ledger.
func (s *Store) Counts(ctx context.Context) (store.Counts, error) {
	if err := s.ready(ctx, "read the ledger"); err != nil {
		return store.Counts{}, err
	}
	var total store.Counts
	for _, p := range s.partitions {
		p.mu.Lock()
		p.state.addCounts(&total)
		p.mu.Unlock()
	}
	return total, nil
}

// Runs implements store.Ledger. The runs are ordered by partition and name.
func (s *Store) Runs(ctx context.Context) ([]store.Run, error) {
	if err := s.ready(ctx, "list the generator processes"); err != nil {
		return nil, err
	}
	var runs []store.Run
	for _, p := range s.partitions {
		runs = append(runs, read(p, (*state).registered)...)
	}
	return runs, nil
}

// Chunk implements store.Ledger.
func (s *Store) Chunk(ctx context.Context, r store.Run, index int64) (store.Chunk, error) {
	p, err := s.partition(ctx, "read a chunk", r.Partition)
	if err != nil {
		return store.Chunk{}, err
	}
	return read(p, func(s *state) store.Chunk { return s.chunk(r.Run, index) }), nil
}

// Dataset implements store.Ledger. It never reports a loss of data, because durable data is lost only when this process
// ends.
func (s *Store) Dataset(ctx context.Context) (store.Dataset, error) {
	if err := s.ready(ctx, "describe the data"); err != nil {
		return store.Dataset{}, err
	}
	return store.Dataset{Partitions: len(s.partitions)}, nil
}

// Ping implements store.Store. It returns an error if the store is closed.
func (s *Store) Ping(ctx context.Context) error { return s.ready(ctx, "ping the store") }

// Version implements store.Store. It returns "in memory".
func (s *Store) Version(context.Context) (string, error) { return "in memory", nil }

// Purge implements store.Store.
func (s *Store) Purge(ctx context.Context) error {
	if err := s.ready(ctx, "purge the store"); err != nil {
		return err
	}
	for _, p := range s.partitions {
		p.change((*state).reset)
	}
	s.timeline.purge()
	return nil
}

// Close closes the store. All later calls return an error.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// exitKind is the kind of an exit. Generators publish matched and unmatched exits; external publishers publish the
// others.
type exitKind int

const (
	externalExit exitKind = iota
	matchedExit
	unmatchedExit
)

// kindOf returns the kind of an exit. A generated exit without an intent counts as matchedExit, so that the ledger
// reports a possible loss.
func kindOf(e store.ExitStep) exitKind {
	switch {
	case !e.Origin.Generated():
		return externalExit
	case e.Intent == event.IntentUnmatched:
		return unmatchedExit
	default:
		return matchedExit
	}
}
