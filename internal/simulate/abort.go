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

// watch adds one mark to the timeline for each check that is certain to fail, until ctx ends. If the plan has
// abortOnFailure, such a check also makes watch call stop, unless the context generating has ended.
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

// evidence returns the evidence for the verdict on a running simulation. r is the latest audit of the ledger.
func (s *Simulation) evidence(ctx context.Context, r *ledger.Report) ledger.Evidence {
	rows, accounts, err := s.accountsSoFar(ctx)
	return ledger.EvidenceSoFar(&s.config.Plan, r, rows, err, accounts)
}

// SoFar returns the start time and the effects of the faults so far. It contains no recovery times while a fault is in
// effect.
func (s *Simulation) SoFar(ctx context.Context) report.Run {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	r, records := s.Occurrences(), s.Faults()
	// While a fault is in effect, do not read the timeline: the fault may make the store unavailable.
	if !slices.ContainsFunc(records, func(r fault.Record) bool { return !r.IsFinal() }) {
		if rows, err := s.live.timeline(ctx); err == nil {
			r.Faults = fault.Accounts(records, fault.RunSoFar(rows, s.endOfSchedule()))
		}
	}
	return r
}

// Occurrences returns the start time and an account of each occurrence of a fault so far, without recovery times.
func (s *Simulation) Occurrences() report.Run {
	r := report.Run{Faults: fault.Accounts(s.Faults(), fault.Run{})}
	if start := s.started.Load(); start != nil {
		r.StartTime = *start
	}
	return r
}

// accountsSoFar returns the timeline and the effects of the faults so far. rows is nil if the timeline of this plan
// cannot show early that the run will fail.
func (s *Simulation) accountsSoFar(ctx context.Context) (rows []timeline.Row, accounts []fault.Account, err error) {
	p := &s.config.Plan
	if ledger.ForeseesFromTimeline(p) {
		rows, err = s.live.timeline(ctx)
	}
	return rows, fault.Accounts(s.Faults(), fault.RunSoFar(rows, s.endOfSchedule())), err
}
