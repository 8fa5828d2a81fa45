package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// complete writes the verdict once the simulation has come to rest.
func (r *Reconciler) complete(_ context.Context, s *scope) error {
	if s.observation == nil || s.observation.Rest == nil || !s.isDraining() {
		return nil
	}
	verdict := evaluate(s.observation, s.plan.Objectives)
	at := metav1.NewTime(s.now.Truncate(time.Second))
	status := &s.sim.Status
	status.CompletionTime, status.Verdict = &at, v1alpha1.Verdict(verdict.Outcome)
	status.Reasons = boundedReasons(verdict.Reasons)
	status.Latency = latencyStatus(s.observation.Rest)
	s.findings.complete = true
	s.wakeAfter(0) // observing ends once the verdict is in the status
	return nil
}

// evaluate returns the verdict of an observation at rest.
func evaluate(now *observer.Observation, objectives plan.Objectives) ledger.Verdict {
	e := evidence(now, objectives)
	e.Report, e.Summaries = now.Rest.Report, now.Rest.Measurement.Summaries
	e.Latencies = &ledger.Latencies{
		Processing: now.Rest.Measurement.Processing,
		EndToEnd:   now.Rest.Measurement.EndToEnd,
		Unmeasured: now.Rest.Unmeasured(),
		Err:        now.Rest.MeasureErr,
	}
	return ledger.Evaluate(e)
}

// evidence returns the part of the evidence that every observation contains.
func evidence(now *observer.Observation, objectives plan.Objectives) ledger.Evidence {
	return ledger.Evidence{
		Report: now.Report, Objectives: objectives, Depths: now.Depths, DeadReasons: now.DeadReasons, InFlight: ledger.Unknown,
	}
}

const (
	p50 = 0.5
	p99 = 0.99
)

// latencyStatus converts measurements to the status. It returns nil if nothing was measured.
func latencyStatus(r *observer.Rest) *v1alpha1.LatencyStatus {
	status := &v1alpha1.LatencyStatus{
		Processing: latencySummary(r.Measurement.Processing),
		EndToEnd:   latencySummary(r.Measurement.EndToEnd),
		Unmeasured: int64(r.Unmeasured()),
	}
	if status.Processing == nil && status.EndToEnd == nil {
		return nil
	}
	return status
}

func latencySummary(s latency.Snapshot) *v1alpha1.LatencySummary {
	if s.Count() == 0 {
		return nil
	}
	shown := func(q float64) v1alpha1.Duration {
		return *v1alpha1.NewDuration(s.Quantile(q).Round(time.Microsecond))
	}
	return &v1alpha1.LatencySummary{P50: shown(p50), P99: shown(p99)}
}

// verdictFinding returns the finding about the objectives of a complete simulation.
func verdictFinding(status *v1alpha1.ParkingSimulationStatus) finding {
	if status.Verdict != v1alpha1.VerdictPass {
		return found(stalled, reasonObjectivesUnmet, "%s%s", strings.Join(status.Reasons, "; "), figures(status.Latency))
	}
	return found(ready, reasonObjectivesMet, "Every check passed%s", figures(status.Latency))
}

// figures lists the measured latencies.
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
	return ". Measured: " + strings.Join(words, "; ")
}

// boundedReasons limits reasons to what the status can hold.
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
