package kubectl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/view"
)

// Audit contains the ledger of a simulation, and the verdict, latencies and objectives that are shown with the ledger.
type Audit struct {
	ledger.Verdict

	Simulation string
	Ledger     ledger.Report
	Latencies  report.Latencies
	Objectives plan.Objectives
	// Running is true if the simulation is not complete. The numbers of a running simulation change while they are
	// read, so they may not add up.
	Running bool
	// Notes say what limits the audit, such as missing data or checks that are not possible yet.
	Notes []string
}

// Audit returns the audit of a simulation, from its report or, while it runs, from a pod. If neither can be read, Audit
// uses the status.
func (p *Plugin) Audit(ctx context.Context, name string) (*Audit, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	c, err := p.connect()
	if err != nil {
		return nil, err
	}
	return c.audit(ctx, name)
}

func (c *cluster) audit(ctx context.Context, name string) (*Audit, error) {
	sim, err := c.simulation(ctx, name)
	if err != nil {
		return nil, err
	}
	if sim.Status.Report != "" {
		d, err := c.reportOf(ctx, sim)
		if err != nil {
			return auditOfStatus(sim, "the report cannot be read", err)
		}
		return auditOfReport(sim, d)
	}
	s := c.source(sim, nil)
	defer s.pages.Close()
	a, err := s.audit(ctx, sim)
	if err == nil {
		return a, nil
	}
	return auditOfStatus(sim, "the ledger cannot be read from a pod", err)
}

// auditOfReport returns the audit of a complete simulation.
func auditOfReport(sim *v1alpha1.ParkingSimulation, d *report.Document) (*Audit, error) {
	if d.Ledger == nil {
		return nil, fmt.Errorf("the report of %s/%s has no ledger: the ledger could not be read when the simulation was complete", sim.Namespace, sim.Name)
	}
	return &Audit{Verdict: d.Verdict, Simulation: d.Simulation, Ledger: *d.Ledger, Latencies: d.LatencySeconds, Objectives: d.Objectives}, nil
}

// audit reads the ledger and the timeline of a running simulation from one of its pods.
func (s *source) audit(ctx context.Context, sim *v1alpha1.ParkingSimulation) (*Audit, error) {
	state, err := s.State(ctx)
	if err != nil {
		return nil, err
	}
	if state.Ledger == nil {
		return nil, errors.New("the ledger has not been read yet")
	}
	a := &Audit{Simulation: manifest.ID(sim), Ledger: *state.Ledger, Objectives: objectivesOf(sim), Running: true}
	// Request rows up to one hour in the future, because the clock of the pod may be ahead of the clock of this
	// machine.
	rows, err := s.fetch(ctx, time.Unix(0, 0), time.Now().Add(time.Hour))
	latencies := ledger.LatenciesOf(rows, err, &a.Ledger)
	a.Latencies = report.LatenciesOf(latencies)
	a.evaluate(sim, ledger.Evidence{Depths: depthsOf(&state.Queues), Latencies: latencies, Timeline: rows})
	return a, nil
}

// evaluate adds the verdict of a running simulation, which is never PASS.
func (a *Audit) evaluate(sim *v1alpha1.ParkingSimulation, e ledger.Evidence) {
	e.Report, e.Objectives, e.Running, e.InFlight = a.Ledger, a.Objectives, true, ledger.Unknown
	a.Verdict = ledger.Evaluate(e)
	if len(sim.Spec.Faults) > 0 {
		a.Notes = append(a.Notes, "faults, recovery, and the objectives withoutFaults and underFaults are checked when the simulation is complete")
	}
	a.Notes = append(a.Notes, "the simulation is not complete: its numbers were read while they changed, so they may not add up; lost events are named when the simulation is complete")
}

// objectivesOf omits the objectives that depend on faults, because the audit of a running simulation does not read when
// faults were injected.
func objectivesOf(sim *v1alpha1.ParkingSimulation) plan.Objectives {
	resolved, errs := manifest.Resolve(sim)
	if len(errs) > 0 {
		return plan.Objectives{} // an invalid spec has no objectives; the condition Stalled says what is invalid
	}
	o := resolved.Plan.Objectives
	return plan.Objectives{PhaseObjectives: o.PhaseObjectives, MaxLost: o.MaxLost, MaxUnexpected: o.MaxUnexpected}
}

func depthsOf(q *view.Queues) broker.Depths {
	known := func(n *int64) int64 {
		if n == nil {
			return ledger.Unknown
		}
		return *n
	}
	return broker.Depths{Ready: known(q.Ready), Retry: known(q.Retrying), Dead: known(q.DeadLetters)}
}

// auditOfStatus returns an audit with the data in the status. missing and reason say why no better data is used.
func auditOfStatus(sim *v1alpha1.ParkingSimulation, missing string, reason error) (*Audit, error) {
	l := sim.Status.Ledger
	if l == nil {
		return nil, fmt.Errorf("audit %s/%s: the status has no ledger, and %s: %w", sim.Namespace, sim.Name, missing, reason)
	}
	a := &Audit{Simulation: manifest.ID(sim), Objectives: objectivesOf(sim), Running: true, Ledger: ledger.Report{
		EntriesConfirmed: l.EntriesConfirmed, EntriesRecorded: l.EntriesRecorded,
		ExitsMatchedConfirmed: l.ExitsMatchedConfirmed, ExitsUnmatchedConfirmed: l.ExitsUnmatchedConfirmed,
		Matched: l.Matched, UnmatchedExpected: l.UnmatchedExpected, UnmatchedUnexpected: l.UnmatchedUnexpected,
		SummariesStored: l.SummariesStored, DuplicatesSuppressed: l.DuplicatesSuppressed, DeadLettered: l.DeadLettered,
		Indeterminate: l.Indeterminate, Starved: l.Starved,
		ExternalEntries: l.ExternalEntries, ExternalMatched: l.ExternalMatched, EntryNotFound: l.EntryNotFound,
	}}
	if l.Lost != nil {
		a.Ledger.Lost = *l.Lost
	} else {
		a.Ledger.Outstanding = missingEvents(l)
	}
	if l.DataLostTime != nil {
		a.Ledger.DataLostAt = &l.DataLostTime.Time
	}
	at := "an unknown time"
	if l.ObservedTime != nil {
		at = l.ObservedTime.UTC().Format(time.RFC3339)
	}
	a.Notes = []string{missing + ": " + reason.Error(), "the numbers come from the status of the simulation, observed at " + at}
	if sim.Status.Verdict != "" { // only a complete simulation has a verdict
		a.Running = false
		a.Verdict = ledger.Verdict{Outcome: ledger.Outcome(sim.Status.Verdict), Reasons: sim.Status.Reasons, Checks: []ledger.Check{}}
		return a, nil
	}
	a.evaluate(sim, ledger.Evidence{Depths: broker.Depths{Ready: ledger.Unknown, Retry: ledger.Unknown, Dead: l.DeadLettered}})
	return a, nil
}
