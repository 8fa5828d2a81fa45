package controllers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// giveUpTime is how long the verdict waits for the observer after the drain timeout. The wait is limited because the
// observer may be busy or may not know the servers.
const giveUpTime = time.Minute

// complete writes the verdict and the report once all events have been processed or the drain timeout has expired.
func (r *Reconciler) complete(ctx context.Context, s *scope) error {
	if s.isComplete() || !s.conclude() {
		return nil
	}
	status := &s.sim.Status
	faults := s.accounts()
	verdict := s.evaluate(faults)
	// Write the report before the status. If the operator crashes in between, it writes the report again.
	reportName, err := r.writeReport(ctx, s, verdict, faults)
	if err != nil {
		return err
	}
	if end, ends := endOf(s.sim); ends {
		status.EndTime = wholeSeconds(end)
	}
	status.CompletionTime, status.Verdict = wholeSeconds(s.now), v1alpha1.Verdict(verdict.Outcome)
	status.Reasons, status.Report = boundedReasons(verdict.Reasons), reportName
	status.Latency = latencyStatus(&s.observation.Rest.Latencies)
	status.Faults = faultsStatus(faults)
	s.findings.complete = true
	s.wakeAfter(0) // stop observing in the next reconcile, when the status contains the verdict
	return nil
}

// conclude reports whether it is time for the verdict. If the servers could not be observed by then, it sets an
// observation that contains the error.
func (s *scope) conclude() bool {
	if s.observation != nil && s.observation.Rest != nil && s.isDraining() && s.faultsEnded() {
		return true
	}
	deadline, _ := s.drainDeadline()
	switch {
	case !s.drainTimedOut():
		return false
	case s.observation != nil && s.observation.Rest != nil:
		rest := *s.observation.Rest // copied, because other reconciles use the same observation
		rest.TimedOut = true
		now := *s.observation
		now.Rest = &rest
		s.observation = &now
		return true
	case s.now.Before(deadline.Add(giveUpTime)):
		return false
	}
	err := errors.New("RabbitMQ or Redis could not be observed")
	if s.observation != nil && s.observation.Err() != nil {
		err = s.observation.Err()
	}
	s.observation = &observer.Observation{At: s.now, Rest: &observer.Rest{Err: err, TimedOut: true}}
	return true
}

// evaluate computes the verdict of the simulation.
func (s *scope) evaluate(faults []fault.Account) ledger.Verdict {
	// The published events can be compared with the schedule only if the schedule has not changed since the start.
	// An abort changes it.
	unchanged := s.sim.Status.StartGeneration == s.sim.Generation && !s.isAborted()
	var failures []error
	if s.observation.Rest.TimedOut {
		failures = append(failures, fmt.Errorf("the simulation did not come to rest within the drain timeout of %s", *s.sim.Spec.DrainTimeout))
	}
	e := finalEvidence(s.observation, s.plan, unchanged, faults)
	e.Failures = failures
	if s.isAborted() {
		e.Aborted = "at least one check had failed for good"
		if reasons := ledger.CertainFailures(e); len(reasons) > 0 {
			e.Aborted = reasons[0]
		}
	}
	return ledger.Evaluate(e)
}

// finalEvidence returns the evidence for the verdict from the final observation. It compares the published events
// with the schedules only if the plan has not changed since the start.
func finalEvidence(now *observer.Observation, p *plan.Plan, unchanged bool, faults []fault.Account) ledger.Evidence {
	e := evidence(now, p.Objectives)
	e.Report, e.ReportErr, e.Summaries = now.Rest.Report, now.Rest.Err, now.Rest.Summaries
	if now.BrokerErr != nil {
		e.Depths = broker.Depths{Ready: ledger.Unknown, Retry: ledger.Unknown, Dead: ledger.Unknown}
	}
	e.Latencies, e.Timeline = &now.Rest.Latencies, now.Rest.Timeline
	e.Planned, e.Faults = p.Faults, faults
	if unchanged {
		e.Entries, e.Exits = schedules(p, &e.Report)
	}
	return e
}

// lateStart is the maximum delay after startTime with which generators may begin to publish. Pods do not know the
// start time before the kubelet updates the mounted plan.
const lateStart = 30 * time.Second

// schedules compares the numbers of published events with the schedules. It reads these numbers from the ledger,
// because the generators no longer run when a simulation is complete. An exit that was not published because no
// plate was available counts as published.
func schedules(p *plan.Plan, r *ledger.Report) (entries, exits *ledger.Schedule) {
	entered := r.EntriesConfirmed + r.IndeterminateEntries
	left := r.ExitsMatchedConfirmed + r.ExitsUnmatchedConfirmed + r.IndeterminateMatched + r.IndeterminateUnmatched + r.Starved
	return kept(p.Entry.Schedule, p.Duration.D(), entered), kept(p.Exit.Schedule, p.Duration.D()-p.Exit.Delay(), left)
}

// kept compares the number of published events with the number of events that were due by the schedule. It tolerates
// a late start, and the statistical variation of random arrivals. It returns nil if no event remains due after this
// tolerance is subtracted.
func kept(s plan.Schedule, length time.Duration, attempted int64) *ledger.Schedule {
	if s.Replicas == 0 || length <= 0 {
		return nil
	}
	due := s.Events(length)
	if attempted > 0 {
		due -= s.Events(min(lateStart, length))
	}
	if s.Arrivals == plan.ArrivalsPoisson {
		const deviations = 4
		due -= deviations * int64(math.Sqrt(float64(due)))
	}
	if due <= 0 {
		return nil
	}
	return &ledger.Schedule{Due: due, Missed: max(0, due-attempted)}
}

// evidence returns what every observation contributes to the verdict: the ledger, the queue depths and the reasons
// for dead letters.
func evidence(now *observer.Observation, objectives plan.Objectives) ledger.Evidence {
	return ledger.Evidence{
		Report: now.Report, Objectives: objectives, Depths: now.Depths, DeadReasons: now.DeadReasons, InFlight: ledger.Unknown,
	}
}

const (
	p50 = 0.5
	p99 = 0.99
)

// latencyStatus converts latencies to the form that they have in the status. It returns nil if no latency was
// measured.
func latencyStatus(l *ledger.Latencies) *v1alpha1.LatencyStatus {
	status := &v1alpha1.LatencyStatus{
		Processing: latencySummary(l.Processing),
		EndToEnd:   latencySummary(l.EndToEnd),
		Unmeasured: int64(l.Unmeasured),
	}
	if status.Processing == nil && status.EndToEnd == nil {
		return nil
	}
	return status
}

func latencySummary(s histogram.Snapshot) *v1alpha1.LatencySummary {
	if s.Count() == 0 {
		return nil
	}
	shown := func(q float64) v1alpha1.Duration {
		return *v1alpha1.NewDuration(s.Quantile(q).Round(time.Microsecond))
	}
	return &v1alpha1.LatencySummary{P50: shown(p50), P99: shown(p99)}
}

// verdictFinding returns the state for the condition ObjectivesMet of a complete simulation. It contains the
// verdict.
func verdictFinding(status *v1alpha1.ParkingSimulationStatus) finding {
	if status.Verdict != v1alpha1.VerdictPass {
		return found(stalled, reasonObjectivesUnmet, "%s%s", strings.Join(status.Reasons, "; "), figures(status.Latency))
	}
	return found(ready, reasonObjectivesMet, "Every check passed%s", figures(status.Latency))
}

// figures lists the measured latencies for the message of a condition.
func figures(l *v1alpha1.LatencyStatus) string {
	if l == nil {
		return ". No latency was measured"
	}
	var words []string
	for _, part := range []struct {
		name    string
		summary *v1alpha1.LatencySummary
	}{{"processing", l.Processing}, {"end to end", l.EndToEnd}} {
		if part.summary == nil {
			words = append(words, part.name+" –")
			continue
		}
		words = append(words, fmt.Sprintf("%s p50 %s, p99 %s", part.name, part.summary.P50, part.summary.P99))
	}
	text := ". Measured: " + strings.Join(words, "; ")
	if l.Unmeasured > 0 {
		text += fmt.Sprintf("; not measured: %d of the events", l.Unmeasured)
	}
	return text
}

// boundedReasons limits the number and the length of the reasons to what the status allows.
func boundedReasons(reasons []string) []string {
	const maxReasons, maxReason = 32, 1024
	if len(reasons) > maxReasons {
		reasons = reasons[:maxReasons]
	}
	bounded := make([]string, len(reasons))
	for i, reason := range reasons {
		bounded[i] = excerpt.Of(reason, maxReason)
	}
	return bounded
}
