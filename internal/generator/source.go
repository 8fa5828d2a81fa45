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

// draft is what is to be published at a position.
type draft struct {
	plate     string
	partition int
	intent    event.Intent
	// earliest is the earliest instant that the event may have.
	earliest time.Time
}

// source decides what is published at each position.
type source interface {
	// draft returns the draft of a position. It reports false when nothing is to be published there.
	draft(ctx context.Context, position int64) (draft, bool, error)
	// withdrawn takes back the latest draft, which was not published.
	withdrawn(d draft)
	// serve does what has to be done beside until stopping is closed and winds up then. It ends with ctx at
	// the latest.
	serve(ctx context.Context, stopping <-chan struct{})
	// starved returns the number of positions at which nothing was published as the pool was empty.
	starved() int64
}

// entries is the source of entries: each position's own plate.
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

const (
	// reportInterval is how often the pool is measured and starved draws are reported.
	reportInterval = 5 * time.Second
	// entryPrecision is how precise the entry's instant of a claimed plate is: stores keep whole
	// milliseconds of it.
	entryPrecision = time.Millisecond
)

// exits is the source of exits: a claimed plate where the draw is matched, else the position's own plate,
// which never entered.
type exits struct {
	sequence   *sequence.Sequence
	partitions int
	plan       *atomic.Pointer[plan.Plan]
	claims     *claims
	store      Store
	log        *slog.Logger
	run        string
	// starvedDraws counts the draws that found the pool empty; metrics shows that and the size of the pool.
	starvedDraws atomic.Int64
	metrics      *instruments
}

func (e *exits) starved() int64 { return e.starvedDraws.Load() }

func (e *exits) serve(ctx context.Context, stopping <-chan struct{}) {
	var serving sync.WaitGroup
	for _, claimer := range e.claims.claimers {
		serving.Go(func() { claimer.serve(ctx, stopping) })
	}
	serving.Go(func() { e.report(ctx, stopping) })
	serving.Wait()
}

// report measures the pool and reports starved draws, now and then and at the end.
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
		e.log.Debug("the pool was not measured", "error", err)
		return
	}
	e.metrics.pool.Set(float64(plates))
}

// reportStarved reports all starved draws of the run each time, so that a report that was lost is made
// good by the next.
func (e *exits) reportStarved(ctx context.Context) {
	total := e.starvedDraws.Load()
	if total == 0 {
		return
	}
	if err := e.store.CountStarved(ctx, e.run, total); err != nil {
		e.log.Debug("starved draws were not reported", "error", err)
	}
}

func (e *exits) draft(ctx context.Context, position int64) (draft, bool, error) {
	if !e.sequence.Matched(position, e.plan.Load().Exit.MatchPercent) {
		plate := e.sequence.UnmatchedPlate(position)
		partition := event.PartitionOf(plate, e.partitions)
		return draft{plate: plate, partition: partition, intent: event.IntentUnmatched}, true, nil
	}
	plate, partition, ok, err := e.claims.take(ctx)
	switch {
	case err != nil:
		return draft{}, false, err
	case !ok:
		e.starvedDraws.Add(1)
		e.metrics.starved.Inc()
		return draft{}, false, nil
	}
	// The exit must be later than the entry even where the clock of this process is behind that of the entry's.
	earliest := plate.EntryAt.Add(entryPrecision)
	return draft{plate: plate.Plate, partition: partition, intent: event.IntentMatched, earliest: earliest}, true, nil
}

func (e *exits) withdrawn(d draft) {
	if d.intent == event.IntentMatched {
		e.claims.putBack()
	}
}
