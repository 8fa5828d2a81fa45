package simulate

import (
	"context"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

const auditTimeout = 2 * time.Second

type live struct {
	mu      sync.Mutex
	auditor *ledger.Auditor
	ledger  *ledger.Report // the latest ledger that could be read
	final   *report.Run    // nil until the simulation has finished

	reading sync.Mutex
	reader  *ledger.TimelineReader
}

// faults returns the accounts of faults in the final result. final is false while there is no final result.
func (l *live) faults() (accounts []fault.Account, final bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.final == nil {
		return nil, false
	}
	return l.final.Faults, true
}

func (l *live) timeline(ctx context.Context) ([]timeline.Row, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	return l.reader.Read(ctx)
}

func (l *live) finish(result report.Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.final = &result
}

// audit returns the latest ledger that could be read, and the final result. Each is nil if it does not exist yet.
func (l *live) audit(ctx context.Context) (*ledger.Report, *report.Run) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.final != nil {
		return l.final.Ledger, l.final
	}
	if r, err := l.auditor.Audit(ctx, ledger.Options{}); err == nil {
		l.ledger = &r
	}
	return l.ledger, nil
}

// State implements view.Source. It may be called at any time.
func (s *Simulation) State(ctx context.Context) (view.State, error) {
	p, run := s.Progress(), &s.config.Plan
	state := view.State{
		Run: p.Entries.Run, Simulation: run.Simulation, Phase: p.Phase.view(), At: p.At, StartedAt: p.At.Add(-p.Elapsed),
		DurationSeconds: run.Duration.D().Seconds(),
		Objectives:      view.ObjectivesOf(&run.Objectives),
		Entry:           generatorOf(&p.Entries),
		Exit:            generatorOf(&p.Exits),
		Queues:          view.Queues{InFlight: &p.InFlight, Pool: p.Pool},
	}
	if start := s.started.Load(); start != nil {
		state.StartedAt = *start // not from p.Elapsed, which stops while the machine is suspended
	}
	if d := p.Depths; d != nil {
		state.Queues.Ready, state.Queues.Retrying, state.Queues.DeadLetters = &d.Ready, &d.Retry, &d.Dead
	}
	l, final := s.live.audit(ctx)
	state.Ledger = l
	switch {
	case final != nil:
		state.Phase = view.Finished
		state.Verdict = view.Verdict{Outcome: final.Outcome, Final: true, Reasons: final.Reasons}
		state.Faults = final.Faults
		if final.Ledger != nil {
			state.Unmeasured = &final.LatencySeconds.Unmeasured
		}
	case l != nil:
		e := s.evidence(ctx, l)
		state.Faults = e.Faults
		state.Verdict.Reasons = ledger.Messages(ledger.CertainFailures(e))
		if len(state.Verdict.Reasons) > 0 {
			state.Verdict.Outcome = ledger.Fail
		}
	}
	return state, nil
}

// Timeline implements view.Source.
func (s *Simulation) Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	return s.deps.Store.ReadTimeline(ctx, from, to)
}

func (p Phase) view() view.Phase {
	switch p {
	case Draining:
		return view.Draining
	case Auditing:
		return view.Auditing
	}
	return view.Running
}

func generatorOf(s *generator.Stats) view.Generator {
	return view.Generator{
		Rate: s.Rate, TargetRate: s.TargetRate, AchievedRate: s.AchievedRate,
		Due: s.Due, Published: s.Published, Missed: s.Missed, Starved: s.Starved, LagSeconds: s.Lag.Seconds(),
	}
}
