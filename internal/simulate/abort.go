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

// watchInterval is the interval between two checks of whether a run is already certain to fail.
const watchInterval = time.Second

// watch adds a mark to the timeline for each check that is certain to fail. If abortOnFailure is set in the plan, it
// also calls stop at the first such check, to stop the generators. It does not call stop after the context generating
// has ended, because the generators are then already stopping. watch returns when ctx ends.
func (s *Simulation) watch(ctx, generating context.Context, stop func()) {
	async.Every(ctx, watchInterval, func() {
		polling, cancel := context.WithTimeout(ctx, auditTimeout)
		defer cancel()
		audited, _ := s.live.audit(polling)
		if audited == nil {
			return
		}
		failed := ledger.CertainFailures(s.evidence(polling, audited))
		if len(failed) == 0 || ctx.Err() != nil {
			return
		}
		s.objectives.Failed(time.Now(), failed)
		if s.config.Plan.Objectives.AbortOnFailure && generating.Err() == nil {
			s.aborted.CompareAndSwap(nil, &failed[0].Message)
			stop()
		}
	})
}

// evidence returns the evidence for the verdict on the simulation while it is still running. The parameter r is the
// latest audit of its ledger.
func (s *Simulation) evidence(ctx context.Context, r *ledger.Report) ledger.Evidence {
	rows, accounts, err := s.accountsSoFar(ctx)
	return ledger.EvidenceSoFar(&s.config.Plan, r, rows, err, accounts)
}

// SoFar returns the start time of the run, and the effects of the faults so far. While a fault is in effect, SoFar does
// not read the timeline, because the fault may have hit the store. Its result then does not say whether the simulation
// has recovered.
func (s *Simulation) SoFar(ctx context.Context) report.Run {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	r, records := s.Occurrences(), s.Faults()
	if !slices.ContainsFunc(records, func(r fault.Record) bool { return !r.IsFinal() }) {
		if rows, err := s.live.timeline(ctx); err == nil {
			r.Faults = fault.Accounts(records, fault.RunSoFar(rows, s.endOfSchedule()))
		}
	}
	return r
}

// Occurrences returns the start time of the run, and an account of each occurrence of a fault so far. It does not read
// the timeline from the store, so the accounts do not say whether the simulation has recovered.
func (s *Simulation) Occurrences() report.Run {
	r := report.Run{Faults: fault.Accounts(s.Faults(), fault.Run{})}
	if start := s.started.Load(); start != nil {
		r.StartTime = *start
	}
	return r
}

// accountsSoFar returns the timeline so far, and what the faults have done to the simulation so far. If the plan has
// neither faults nor a maximum lag, the timeline cannot show that the simulation will fail. Then accountsSoFar does not
// read it, and rows is nil.
func (s *Simulation) accountsSoFar(ctx context.Context) (rows []timeline.Row, accounts []fault.Account, err error) {
	p := &s.config.Plan
	if ledger.ForeseesFromTimeline(p) {
		rows, err = s.live.timeline(ctx)
	}
	return rows, fault.Accounts(s.Faults(), fault.RunSoFar(rows, s.endOfSchedule())), err
}
