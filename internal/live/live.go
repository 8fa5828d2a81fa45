// Package live reports the state of a running simulation whose components are separate processes.
//
// The package reports failures that are already certain, but no final verdict. It does not know when a simulation is
// complete.
package live

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

// lagTime is how far back State looks for the longest lag of a generator.
const lagTime = 5 * time.Second

// Store contains the methods of a store that a Source calls.
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
	reader  *ledger.TimelineReader
}

// New returns a Source that reads the live state of one simulation.
func New(d Dependencies) *Source {
	return &Source{deps: d, auditor: ledger.NewAuditor(d.Store), reader: ledger.NewTimelineReader(d.Store)}
}

// Timeline implements view.Source.
func (s *Source) Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	return s.deps.Store.ReadTimeline(ctx, from, to)
}

// State implements view.Source.
func (s *Source) State(ctx context.Context) (view.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	account, err := s.auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return view.State{}, err
	}
	now := time.Now()
	rows, err := s.reader.Read(ctx)
	if err != nil {
		return view.State{}, fmt.Errorf("read the timeline: %w", err)
	}
	p := s.deps.Plan()
	depths := s.deps.Depths()
	state := view.State{
		Run: cmp.Or(p.Owner, p.Simulation), Simulation: p.Simulation, Phase: view.Running,
		At: now.UTC(), StartedAt: p.StartTime, DurationSeconds: p.Duration.D().Seconds(),
		Objectives: view.ObjectivesOf(&p.Objectives),
		Ledger:     &account,
		Verdict:    verdictSoFar(p, &account, rows, depths),
	}
	clock := clockOf(p, now)
	if clock.over {
		state.Phase = view.Draining
	}
	rates := report.RatesOf(rows) // the report uses the same function, so the live page shows the same rates
	state.Entry = generatorOf(event.TypeEntry, rows, clock, clock.rate(p.Entry.Schedule, 0), rates.Entry)
	state.Exit = generatorOf(event.TypeExit, rows, clock, clock.rate(p.Exit.Schedule, p.ExitDelay()), rates.Exit)
	if depths != nil {
		state.Queues.Ready, state.Queues.Retrying, state.Queues.DeadLetters = &depths.Ready, &depths.Retry, &depths.Dead
	}
	if pool, err := s.deps.Store.PoolSize(ctx); err == nil {
		state.Queues.Pool = &pool
	}
	return state, nil
}

// verdictSoFar returns FAIL and the reasons if the simulation is already certain to fail. It does not consider injected
// faults.
func verdictSoFar(p *plan.Plan, account *ledger.Report, rows []timeline.Row, depths *broker.Depths) view.Verdict {
	e := ledger.EvidenceSoFar(p, account, rows, nil, nil)
	if depths != nil {
		e.Depths = *depths
	}
	v := view.Verdict{Reasons: ledger.Messages(ledger.CertainFailures(e))}
	if len(v.Reasons) > 0 {
		v.Outcome = ledger.Fail
	}
	return v
}

// clock says how far the schedules of a simulation have progressed.
type clock struct {
	now     time.Time
	elapsed time.Duration // time since the start, at most the duration of the simulation; 0 before the start
	runs    bool          // true while the generators publish events
	over    bool          // true after the duration of the simulation has passed
}

func clockOf(p *plan.Plan, now time.Time) clock {
	if p.StartTime.IsZero() {
		return clock{now: now}
	}
	c := clock{now: now, elapsed: max(now.Sub(p.StartTime), 0)}
	if d := p.Duration.D(); d > 0 && c.elapsed >= d {
		c.elapsed, c.over = d, true
	}
	c.runs = !c.over && !p.Suspended
	return c
}

// rate returns the current rate of a schedule in events per second. The schedule begins later than the simulation, by
// the given delay.
func (c clock) rate(s plan.Schedule, delay time.Duration) float64 {
	if !c.runs {
		return 0
	}
	return float64(s.RateAt(c.elapsed - delay))
}

// generatorOf adds up the counts of one event type. It does not merge the latency histograms, because this is slow.
func generatorOf(t event.Type, rows []timeline.Row, c clock, rate float64, mean report.Rate) view.Generator {
	g := view.Generator{Rate: rate, TargetRate: mean.Target, AchievedRate: mean.Achieved}
	for i := range rows {
		e := rows[i].Of(t)
		g.Due += e.Due
		g.Published += e.Published
		g.Missed += e.Missed
		g.Starved += e.Starved
		if rows[i].End().After(c.now.Add(-lagTime)) {
			g.LagSeconds = max(g.LagSeconds, e.Lag.Seconds())
		}
	}
	return g
}
