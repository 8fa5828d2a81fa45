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
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// giveUpTime is how long the verdict waits for the observer after the drain timeout. The observer may be busy, or may
// never learn the addresses of the servers.
const giveUpTime = time.Minute

// complete ends the simulation once all events have been processed or the drain timeout has expired. It writes the
// report and the verdict.
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
	status.Faults, s.finalRecoveries = faultsStatus(faults, s.faultHistory), recoveries(s.faults, faults)
	s.findings.complete = true
	s.wakeAfter(0) // the next reconcile finds the verdict in the status, and stops the observation
	return nil
}

// conclude reports whether it is time for the verdict, which needs the result of the final audit (observer.Rest). If
// this result is missing when giveUpTime has passed since the drain deadline, conclude sets s.observation to an
// observation with an error.
func (s *scope) conclude() bool {
	if s.observation != nil && s.observation.Rest != nil && s.isDraining() && s.faultsEnded() {
		return true
	}
	deadline, _ := s.drainDeadline()
	switch {
	case !s.drainTimedOut():
		return false
	case s.observation != nil && s.observation.Rest != nil:
		rest := *s.observation.Rest // a copy, because other reconciles read the same observation
		rest.TimedOut = true
		now := *s.observation
		now.Rest = &rest
		s.observation = &now
		return true
	case s.now.Before(deadline.Add(giveUpTime)):
		return false
	}
	err := errors.New("RabbitMQ or Redis could not be observed")
	switch {
	case s.observation != nil && s.observation.Err() != nil:
		err = s.observation.Err()
	case s.broker.finding.state == stalled:
		err = s.broker.notObserved()
	case s.store.finding.state == stalled:
		err = s.store.notObserved()
	}
	s.observation = &observer.Observation{At: s.now, Rest: &observer.Rest{Err: err, TimedOut: true}}
	return true
}

func (s *scope) evaluate(faults []fault.Account) ledger.Verdict {
	// Do not compare the published events with a schedule that has changed since the start.
	unchecked := s.uncheckedSchedule()
	var failures []error
	if s.observation.Rest.TimedOut {
		failures = append(failures, fmt.Errorf("the simulation did not come to rest within the drain timeout of %s", *s.sim.Spec.DrainTimeout))
	}
	e := finalEvidence(s.observation, s.plan, unchecked, faults)
	e.Load = s.load()
	e.Failures, e.FaultHistory = failures, s.faultHistory
	if s.isEditedLate() {
		e.Entries, e.Exits = nil, nil
	}
	if s.isAborted() {
		e.Entries, e.Exits = nil, nil // the schedule is not checked, because the abort stopped the generators early
		e.Aborted = s.abortReason()
	}
	return ledger.Evaluate(e)
}

// load returns the events that the plan schedules. It returns nil if they are unknown, for example because the schedule
// was edited or the run was ended early.
func (s *scope) load() *ledger.Load {
	end, ends := endOf(s.sim)
	if !ends || s.uncheckedSchedule() != "" || s.isAborted() {
		return nil
	}
	return ledger.LoadOf(s.plan, s.sim.Status.StartTime.Time, end, lateStart)
}

// isEditedLate reports whether the schedule was changed less than lateStart before the end. It returns false if no
// event was published at all, because a late change does not explain that.
func (s *scope) isEditedLate() bool {
	at := s.sim.Status.ScheduleChangeTime
	end, ends := endOf(s.sim)
	r := &s.observation.Rest.Report
	published := r.EntriesConfirmed + r.ExitsMatchedConfirmed + r.ExitsUnmatchedConfirmed
	return at != nil && ends && published > 0 && end.Sub(at.Time) < lateStart
}

// finalEvidence returns the evidence for the verdict. If the schedules are not checked, the parameter unchecked is the
// reason. Otherwise, it is empty.
func finalEvidence(now *observer.Observation, p *plan.Plan, unchecked string, faults []fault.Account) ledger.Evidence {
	e := evidence(now, p.Objectives)
	e.Report, e.ReportErr, e.Summaries = now.Rest.Report, now.Rest.Err, now.Rest.Summaries
	if now.BrokerErr != nil {
		e.Depths = broker.Depths{Ready: ledger.Unknown, Retry: ledger.Unknown, Dead: ledger.Unknown}
	}
	e.Latencies, e.Timeline = &now.Rest.Latencies, now.Rest.Timeline
	e.Planned, e.Faults = p.Faults, faults
	e.Entries, e.Exits = schedules(p, now.Rest)
	if unchecked != "" {
		e.Unchecked = []string{unchecked}
		e.Entries, e.Exits = ifNothingPublished(e.Entries), ifNothingPublished(e.Exits)
	}
	return e
}

// ifNothingPublished returns s if none of its due events was published. Otherwise it returns nil.
func ifNothingPublished(s *ledger.Schedule) *ledger.Schedule {
	if s != nil && s.Missed == s.Due {
		return s
	}
	return nil
}

// lateStart is the longest tolerated delay between startTime and the first event of a generator. Pods learn the start
// time only when the kubelet updates the mounted plan.
const lateStart = 30 * time.Second

// schedules returns the numbers of due and missed events. Starved exits do not count as missed.
func schedules(p *plan.Plan, rest *observer.Rest) (entries, exits *ledger.Schedule) {
	r := &rest.Report
	entered := r.EntriesConfirmed + r.IndeterminateEntries
	left := r.ExitsMatchedConfirmed + r.ExitsUnmatchedConfirmed + r.IndeterminateMatched + r.IndeterminateUnmatched + r.Starved
	delay := p.ExitDelay()
	skipped := func(s plan.Schedule, begin time.Time, t event.Type) int64 {
		if rest.Latencies.Err != nil {
			return s.Events(lateStart)
		}
		return skippedBy(s, begin, rest.Timeline, t)
	}
	return kept(p.Entry.Schedule, p.Duration.D(), entered, skipped(p.Entry.Schedule, p.StartTime, event.TypeEntry)),
		kept(p.Exit.Schedule, p.Duration.D()-delay, left, skipped(p.Exit.Schedule, p.StartTime.Add(delay), event.TypeExit))
}

// skippedBy returns how many events between begin and begin+lateStart were skipped because generators started late.
// Without any event in the timeline, it returns 0.
func skippedBy(s plan.Schedule, begin time.Time, rows []timeline.Row, t event.Type) int64 {
	deadline := begin.Add(lateStart)
	var due int64
	until, known := begin, false
	for i := range rows {
		row := &rows[i]
		events := row.Of(t)
		known = known || events.Due > 0 || events.Published > 0 || events.Starved > 0
		if row.Start().Before(deadline) {
			due += events.Due
			until = row.End()
		}
	}
	if !known {
		return 0
	}
	// Add one second, because a row of the timeline may count events that became due in the second before the row.
	return min(max(s.Events(until.Sub(begin)+time.Second)-due, 0), s.Events(lateStart))
}

// kept compares the number of attempted events with the number of due events. It allows for late starts and for the
// variation of random arrivals.
func kept(s plan.Schedule, length time.Duration, attempted, skipped int64) *ledger.Schedule {
	if s.Replicas == 0 || length <= 0 {
		return nil
	}
	due := s.Events(length)
	// Excuse at most half of the due events, so that a short schedule is still checked. Excuse none if no event was
	// attempted.
	if attempted > 0 {
		due -= min(skipped, due/2)
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

// evidence returns the evidence that every observation contains: the ledger, the queue depths and the reasons for dead
// letters.
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

// verdictFinding returns the content of the condition ObjectivesMet for a complete simulation: the verdict, its reasons
// and the latencies.
func verdictFinding(status *v1alpha1.ParkingSimulationStatus) finding {
	if status.Verdict != v1alpha1.VerdictPass {
		return found(stalled, reasonObjectivesUnmet, "%s%s", strings.Join(status.Reasons, "; "), figures(status.Latency))
	}
	passed := "All checks passed"
	if len(status.Reasons) > 0 { // the reasons of the verdict PASS say what was not checked
		passed = "All checks passed, except that " + strings.Join(status.Reasons, "; ")
	}
	return found(ready, reasonObjectivesMet, "%s%s", passed, figures(status.Latency))
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

// maxReasons is the maximum number of reasons in the status, and maxReason is the maximum length of one reason. The CRD
// sets both limits.
const maxReasons, maxReason = 32, 1024

func boundedReasons(reasons []string) []string {
	if len(reasons) > maxReasons {
		reasons = reasons[:maxReasons]
	}
	bounded := make([]string, len(reasons))
	for i, reason := range reasons {
		bounded[i] = excerpt.Of(reason, maxReason)
	}
	return bounded
}
