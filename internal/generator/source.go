package generator

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sequence"
)

// draft is an event that has no sequence number yet and is not published yet.
type draft struct {
	plate     string
	partition int
	intent    event.Intent
	// earliest is the earliest time that the event may contain. If the event is published before this time, the event
	// contains this time instead of the current time.
	earliest time.Time
}

// source chooses which event to publish for each position. A position is the number of an event; see package sequence.
type source interface {
	// draft returns the event for a position. It returns false if no event is published for the position.
	draft(ctx context.Context, position int64) (draft, bool, error)
	// withdrawn tells the source that its latest draft was not published.
	withdrawn(d draft)
	// serve runs the background work of the source. After the given channel is closed, serve cleans up and returns. It
	// returns early if ctx ends.
	serve(ctx context.Context, stopping <-chan struct{})
	// starved returns how many events were not published because no plate was available.
	starved() int64
	// pool returns the number of available plates at the time of the latest count. It returns nil before the first
	// count.
	pool() *int64
}

// entries is the source of entries. The position of an entry determines its plate. Plates repeat only after
// sequence.PlateCapacity entries.
type entries struct {
	sequence   *sequence.Sequence
	partitions int
}

func (e *entries) draft(_ context.Context, position int64) (draft, bool, error) {
	plate := e.sequence.EntryPlate(position)
	return draft{plate: plate, partition: event.PartitionOf(plate, e.partitions)}, true, nil
}

func (e *entries) withdrawn(draft) {}

func (e *entries) serve(context.Context, <-chan struct{}) {}

func (e *entries) starved() int64 { return 0 }

func (e *entries) pool() *int64 { return nil }

const (
	// reportInterval is the interval at which the source of exits counts the available plates, and reports how many
	// matched exits found none.
	reportInterval = 5 * time.Second
	// entryPrecision is the precision with which stores keep the entry time of a plate.
	entryPrecision = time.Millisecond
)

// exits is the source of exits. A matched exit has a claimed plate, and an unmatched exit has a plate that has never
// entered.
type exits struct {
	sequence   *sequence.Sequence
	partitions int
	plan       *atomic.Pointer[plan.Plan]
	claims     *claims
	store      Store
	log        *slog.Logger
	run        string
	metrics    *metrics
	// starvedDraws counts the exits that were not published, because they needed the plate of a parked vehicle and no
	// such plate was available.
	starvedDraws atomic.Int64
	// plates is the number of available plates at the time of the latest count. It is nil before the first count.
	plates atomic.Pointer[int64]
}

func (e *exits) starved() int64 { return e.starvedDraws.Load() }

func (e *exits) pool() *int64 { return e.plates.Load() }

func (e *exits) serve(ctx context.Context, stopping <-chan struct{}) {
	var serving sync.WaitGroup
	for _, claimer := range e.claims.claimers {
		serving.Go(func() { claimer.serve(ctx, stopping) })
	}
	serving.Go(func() { e.report(ctx, stopping) })
	serving.Wait()
}

// report regularly counts the available plates, and reports to the store how many exits found no plate. It does so a
// last time when the channel stopping is closed.
func (e *exits) report(ctx context.Context, stopping <-chan struct{}) {
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	for stopped := false; !stopped; {
		select {
		case <-ticker.C:
		case <-stopping:
			stopped = true
		case <-ctx.Done():
			return
		}
		e.reportPool(ctx)
		e.reportStarved(ctx)
	}
}

func (e *exits) reportPool(ctx context.Context) {
	plates, err := e.store.PoolSize(ctx)
	if err != nil {
		e.log.Debug("Failed to count the available plates", "error", err)
		return
	}
	e.plates.Store(&plates)
	e.metrics.pool.Set(float64(plates))
}

// reportStarved reports how many exits found no plate since the start of this process. Each report contains the total,
// so a lost report does no harm.
func (e *exits) reportStarved(ctx context.Context) {
	total := e.starvedDraws.Load()
	if total == 0 {
		return
	}
	if err := e.store.CountStarved(ctx, e.run, total); err != nil {
		e.log.Debug("Failed to report how many exits found no available plate", "error", err)
	}
}

func (e *exits) draft(ctx context.Context, position int64) (draft, bool, error) {
	if !e.sequence.Matched(position, e.plan.Load().Exit.MatchPercent) {
		plate := e.sequence.UnmatchedPlate(position)
		partition := event.PartitionOf(plate, e.partitions)
		return draft{plate: plate, partition: partition, intent: event.IntentUnmatched}, true, nil
	}
	plate, partition, ok, err := e.claims.next(ctx)
	switch {
	case err != nil:
		return draft{}, false, err
	case !ok:
		e.starvedDraws.Add(1)
		e.metrics.starved.Inc()
		return draft{}, false, nil
	}
	// The time of the exit must be after the time of the entry, even if the clock of this process is behind the
	// clock of the entry generator.
	earliest := plate.EntryAt.Add(entryPrecision)
	return draft{plate: plate.Plate, partition: partition, intent: event.IntentMatched, earliest: earliest}, true, nil
}

func (e *exits) withdrawn(d draft) {
	if d.intent == event.IntentMatched {
		e.claims.restore()
	}
}
