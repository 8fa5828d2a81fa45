// Package live reports the state of a running simulation whose components are separate processes. It reads
// everything from the store. So any process that can reach the store can use this package to serve the live page. It
// reports no final verdict, because only the operator knows when a simulation is complete. But it reports failures
// that are already certain.
package live

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

const (
	// settleTime is the age after which a row of the timeline usually does not change any more. The sum of all rows
	// of this age is cached. totalsAge is how long this sum is used before all rows are read again. They are read
	// again because a process that could not reach the store writes its rows later.
	settleTime = 2 * time.Minute
	totalsAge  = time.Minute
	// lagTime is the length of the most recent interval. The reported lag of a generator is its longest lag in this
	// interval.
	lagTime = 5 * time.Second
	// farFuture is added to the current time when all rows are read, because the clocks of other machines may be
	// ahead.
	farFuture = time.Hour
)

// Store contains those methods of a store that a Source calls.
type Store interface {
	store.Ledger
	ledger.Timeline
	PoolSize(ctx context.Context) (int64, error)
}

// Dependencies are the dependencies of a Source. All of them are required.
type Dependencies struct {
	Store Store
	// Plan returns the current plan.
	Plan func() *plan.Plan
	// Depths returns the numbers of messages in the queues, or nil if these numbers are unknown.
	Depths func() *broker.Depths
}

// Source implements view.Source.
type Source struct {
	deps Dependencies

	mu      sync.Mutex // guards the fields below
	auditor *ledger.Auditor
	totals  totals
}

// totals caches the sum of those rows that are older than settleTime.
type totals struct {
	settled timeline.Row
	// until is the end of the last row in the sum, in Unix time. readAt is when the rows were read.
	until  int64
	readAt time.Time
}

// New returns the source of a simulation.
func New(d Dependencies) *Source {
	return &Source{deps: d, auditor: ledger.NewAuditor(d.Store)}
}

// Timeline implements view.Source.
func (s *Source) Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	return s.deps.Store.ReadTimeline(ctx, from, to)
}

// State implements view.Source. It audits the ledger. The first audit reads the whole ledger. Later audits read only
// what has changed.
func (s *Source) State(ctx context.Context) (view.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	account, err := s.auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return view.State{}, err
	}
	now := time.Now()
	recent, err := s.readTimeline(ctx, now)
	if err != nil {
		return view.State{}, fmt.Errorf("read the timeline: %w", err)
	}
	p := s.deps.Plan()
	total := timeline.Sum(append([]timeline.Row{s.totals.settled}, recent...)...)
	depths := s.deps.Depths()
	state := view.State{
		Run: cmp.Or(p.Owner, p.Simulation), Simulation: p.Simulation, Phase: view.Running,
		At: now.UTC(), StartedAt: p.StartTime, DurationSeconds: p.Duration.D().Seconds(),
		Objectives: view.ObjectivesOf(&p.Objectives),
		Ledger:     &account,
		Verdict:    verdictSoFar(account, p, depths),
	}
	clock := clockOf(p, now)
	if clock.over {
		state.Phase = view.Draining
	}
	state.Entry = generatorOf(&total.Entry, clock, clock.rate(p.Entry.Schedule, 0))
	state.Exit = generatorOf(&total.Exit, clock, clock.rate(p.Exit.Schedule, p.Exit.Delay()))
	for i := range recent {
		if recent[i].End().After(now.Add(-lagTime)) {
			state.Entry.LagSeconds = max(state.Entry.LagSeconds, recent[i].Entry.Lag.Seconds())
			state.Exit.LagSeconds = max(state.Exit.LagSeconds, recent[i].Exit.Lag.Seconds())
		}
	}
	if depths != nil {
		state.Queues.Ready, state.Queues.Retrying, state.Queues.DeadLetters = &depths.Ready, &depths.Retry, &depths.Dead
	}
	if pool, err := s.deps.Store.PoolSize(ctx); err == nil {
		state.Queues.Pool = &pool
	}
	return state, nil
}

// verdictSoFar returns FAIL and the reasons if the simulation is already certain to fail.
func verdictSoFar(account ledger.Report, p *plan.Plan, depths *broker.Depths) view.Verdict {
	e := ledger.Evidence{Report: account, Objectives: p.Objectives, Running: true, InFlight: ledger.Unknown}
	if depths != nil {
		e.Depths = *depths
	}
	v := view.Verdict{Reasons: ledger.CertainFailures(e)}
	if len(v.Reasons) > 0 {
		v.Outcome = ledger.Fail
	}
	return v
}

// readTimeline returns the rows that are younger than settleTime. It reads the older rows only if their cached sum
// has become too old.
func (s *Source) readTimeline(ctx context.Context, now time.Time) (recent []timeline.Row, err error) {
	if now.Sub(s.totals.readAt) < totalsAge {
		rows, err := s.deps.Store.ReadTimeline(ctx, time.Unix(s.totals.until, 0), now.Add(farFuture))
		return rowsSince(s.totals.until, rows), err
	}
	rows, err := s.deps.Store.ReadTimeline(ctx, time.Unix(0, 0), now.Add(farFuture))
	if err != nil {
		return nil, err
	}
	until := now.Add(-settleTime).Unix()
	recent = rowsSince(until, rows)
	s.totals = totals{settled: timeline.Sum(rows[:len(rows)-len(recent)]...), until: until, readAt: now}
	return recent, nil
}

// rowsSince returns the rows that begin at the given Unix time or later.
func rowsSince(second int64, rows []timeline.Row) []timeline.Row {
	for i := range rows {
		if rows[i].Second >= second {
			return rows[i:]
		}
	}
	return nil
}

// clock says how far the schedules of a simulation have progressed.
type clock struct {
	elapsed time.Duration // time since the start, at most the duration of the simulation; 0 before the start
	runs    bool          // the generators publish events
	over    bool          // the duration of the simulation is over
}

func clockOf(p *plan.Plan, now time.Time) clock {
	if p.StartTime.IsZero() {
		return clock{}
	}
	c := clock{elapsed: max(now.Sub(p.StartTime), 0)}
	if d := p.Duration.D(); d > 0 && c.elapsed >= d {
		c.elapsed, c.over = d, true
	}
	c.runs = !c.over && !p.Suspended
	return c
}

// rate returns the current rate of a schedule in events per second. The parameter after is how long after the start
// of the simulation the schedule begins.
func (c clock) rate(s plan.Schedule, after time.Duration) float64 {
	if !c.runs {
		return 0
	}
	return float64(s.RateAt(c.elapsed - after))
}

func generatorOf(e *timeline.Events, c clock, rate float64) view.Generator {
	g := view.Generator{Rate: rate, Due: e.Due, Published: e.Published, Missed: e.Missed, Starved: e.Starved}
	if seconds := c.elapsed.Seconds(); seconds > 0 {
		g.TargetRate, g.AchievedRate = float64(e.Due)/seconds, float64(e.Published)/seconds
	}
	return g
}
