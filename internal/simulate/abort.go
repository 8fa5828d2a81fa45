package simulate

import (
	"context"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// abortPoll is the interval between two checks whether a run is already certain to fail.
const abortPoll = time.Second

// abortOnFailure calls the function stop when the simulation is certain to fail. It does so only if
// abortOnFailure is set in the plan. It returns when ctx ends.
func (s *Simulation) abortOnFailure(ctx context.Context, stop func()) {
	if !s.config.Plan.Objectives.AbortOnFailure {
		return
	}
	auditor := ledger.NewAuditor(s.deps.Store)
	async.Every(ctx, abortPoll, func() {
		polling, cancel := context.WithTimeout(ctx, auditTimeout)
		defer cancel()
		report, err := auditor.Audit(polling, ledger.Options{})
		if err != nil {
			return
		}
		if reasons := ledger.CertainFailures(s.evidence(polling, &report)); len(reasons) > 0 && ctx.Err() == nil {
			s.aborted.CompareAndSwap(nil, &reasons[0])
			stop()
		}
	})
}

// evidence returns the evidence for the verdict on a simulation that is still running. r is the latest audit of
// its ledger.
func (s *Simulation) evidence(ctx context.Context, r *ledger.Report) ledger.Evidence {
	rows, accounts, err := s.accountsSoFar(ctx)
	return ledger.EvidenceSoFar(&s.config.Plan, r, rows, err, accounts)
}

// accountsSoFar returns the timeline so far, and what the faults did to the simulation so far. It reads the
// timeline only if that can show, before the end of the run, that the simulation is certain to fail.
func (s *Simulation) accountsSoFar(ctx context.Context) (rows []timeline.Row, accounts []fault.Account, err error) {
	p := &s.config.Plan
	if ledger.ForeseesFromTimeline(p) {
		rows, err = s.live.timeline(ctx)
	}
	var end time.Time
	if start := s.started.Load(); start != nil && p.Duration > 0 {
		end = start.Add(p.Duration.D())
	}
	return rows, fault.Accounts(s.Faults(), fault.RunSoFar(rows, end)), err
}
