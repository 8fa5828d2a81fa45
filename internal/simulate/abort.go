package simulate

import (
	"context"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// abortPoll is the interval between two checks whether a run is already certain to fail.
const abortPoll = time.Second

// abortOnFailure calls the function named stop when the simulation is certain to fail. It does so only if
// abortOnFailure is set in the plan. It returns when ctx ends.
func (s *Simulation) abortOnFailure(ctx context.Context, stop func()) {
	if !s.config.Plan.Objectives.AbortOnFailure {
		return
	}
	auditor := ledger.NewAuditor(s.deps.Store)
	async.Every(ctx, abortPoll, func() {
		polling, cancel := context.WithTimeout(ctx, auditTimeout)
		defer cancel()
		audited, err := auditor.Audit(polling, ledger.Options{})
		if err != nil {
			return
		}
		if reasons := ledger.CertainFailures(s.evidence(polling, &audited)); len(reasons) > 0 && ctx.Err() == nil {
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

// SoFar returns the start of the run, and what the faults have done to the simulation so far. While a fault is in
// effect, SoFar does not read the timeline, because the store may be the target. In this case, the accounts contain no
// recovery.
func (s *Simulation) SoFar(ctx context.Context) report.Run {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	records, run := s.Faults(), fault.Run{}
	if !slices.ContainsFunc(records, func(r fault.Record) bool { return !r.IsFinal() }) {
		if rows, err := s.live.timeline(ctx); err == nil {
			run = fault.RunSoFar(rows, s.endOfSchedule())
		}
	}
	r := report.Run{Faults: fault.Accounts(records, run)}
	if start := s.started.Load(); start != nil {
		r.StartTime = *start
	}
	return r
}

// accountsSoFar returns the timeline and what the faults did to the simulation, both until now. It reads the
// timeline only if the timeline can show, before the end of the run, that the simulation is certain to fail.
func (s *Simulation) accountsSoFar(ctx context.Context) (rows []timeline.Row, accounts []fault.Account, err error) {
	p := &s.config.Plan
	if ledger.ForeseesFromTimeline(p) {
		rows, err = s.live.timeline(ctx)
	}
	return rows, fault.Accounts(s.Faults(), fault.RunSoFar(rows, s.endOfSchedule())), err
}
