package controllers

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// conclude writes the verdict down once the simulation has come to rest.
func (r *Reconciler) conclude(s *scope, latest *reading) {
	if latest.rest == nil || !r.isDraining(s) {
		return
	}
	p, err := manifest.Plan(s.sim)
	if err != nil {
		return // it is valid: it was derived a moment ago
	}
	verdict, unknown := judge(latest, p.Objectives)
	at := metav1.NewTime(s.now.Truncate(time.Second))
	status := &s.sim.Status
	status.CompletionTime, status.Verdict = &at, v1alpha1.Verdict(verdict.Outcome)
	status.Reasons = boundedReasons(append(verdict.Reasons, unknown...))
	status.Latency = latencyStatus(latest.rest)
	s.findings.complete = true
	s.wakeAfter(0) // the ledger is forgotten once that is written down
}

// judge comes to the verdict, and says what could not be checked.
func judge(latest *reading, objectives plan.Objectives) (verdict ledger.Verdict, unknown []string) {
	rest := latest.rest
	input := latest.input(objectives)
	input.Report, input.SummariesHeld = rest.report, rest.measurement.summariesHeld
	unmeasured := rest.unmeasuredEvents()
	for _, check := range []struct {
		name      string
		objective time.Duration
		measured  distribution
		result    **time.Duration
	}{
		{"objectives.processingP99", objectives.ProcessingP99.D(), rest.measurement.processing, &input.ProcessingP99},
		{"objectives.endToEndP99", objectives.EndToEndP99.D(), rest.measurement.endToEnd, &input.EndToEndP99},
	} {
		if check.objective == 0 {
			continue
		}
		*check.result = check.measured.decide(check.objective, unmeasured)
		if *check.result == nil {
			unknown = append(unknown, fmt.Sprintf("%s could not be checked: %d events took effect in processors that have ended or do not answer, too many to tell",
				check.name, unmeasured))
		}
	}
	if rest.unmeasured != nil {
		unknown = append(unknown, fmt.Sprintf("not every pod said what it measured: %s", rest.unmeasured))
	}
	return ledger.Judge(input), unknown
}

// input is what is judged of a reading.
func (r *reading) input(objectives plan.Objectives) ledger.Input {
	return ledger.Input{Report: r.report, Objectives: objectives, Depths: r.depths, DeadReasons: r.deadReasons, InFlight: ledger.Unknown}
}

// awaited is what there is to say of a verdict before the end.
func awaited() finding {
	return found(progressing, reasonNotComplete, "The verdict comes when the simulation is complete")
}

// foresee says before the end when the verdict cannot be PASS any more.
func foresee(latest *reading, objectives plan.Objectives) finding {
	if reasons := ledger.Doomed(latest.input(objectives)); len(reasons) > 0 {
		return found(stalled, reasonObjectivesUnmet, "%s", strings.Join(boundedReasons(reasons), "; "))
	}
	return awaited()
}

// unmeasuredEvents counts the events that took effect in a processor that was not asked.
func (r *settled) unmeasuredEvents() uint64 {
	return uint64(max(generated(r.report)-int64(r.measurement.endToEnd.count), 0))
}

// latencyStatus is what was measured as the status shows it; nil when nothing was.
func latencyStatus(r *settled) *v1alpha1.LatencyStatus {
	status := &v1alpha1.LatencyStatus{
		Processing: latencySummary(r.measurement.processing),
		EndToEnd:   latencySummary(r.measurement.endToEnd),
		Unmeasured: int64(r.unmeasuredEvents()),
	}
	if status.Processing == nil && status.EndToEnd == nil {
		return nil
	}
	return status
}

func latencySummary(d distribution) *v1alpha1.LatencySummary {
	half, ok := d.quantile(p50, 0, 0)
	if !ok {
		return nil
	}
	most, _ := d.quantile(p99, 0, 0)
	const shown = time.Microsecond
	return &v1alpha1.LatencySummary{P50: metav1.Duration{Duration: half.Round(shown)}, P99: metav1.Duration{Duration: most.Round(shown)}}
}

// verdictFinding says whether the objectives are met. A verdict of PASS with reasons lacks what these name.
func verdictFinding(status *v1alpha1.ParkingSimulationStatus) finding {
	reasons := strings.Join(status.Reasons, "; ")
	switch {
	case status.Verdict != v1alpha1.VerdictPass:
		return found(stalled, reasonObjectivesUnmet, "%s%s", reasons, figures(status.Latency))
	case reasons != "":
		return found(progressing, reasonNotChecked, "Every other check passed, but %s%s", reasons, figures(status.Latency))
	default:
		return found(good, reasonObjectivesMet, "Every check passed%s", figures(status.Latency))
	}
}

// figures are the latencies in words.
func figures(l *v1alpha1.LatencyStatus) string {
	if l == nil {
		return ""
	}
	var words []string
	for _, part := range []struct {
		name    string
		summary *v1alpha1.LatencySummary
	}{{"processing", l.Processing}, {"end to end", l.EndToEnd}} {
		if part.summary != nil {
			words = append(words, fmt.Sprintf("%s p50 %s, p99 %s", part.name, part.summary.P50.Duration, part.summary.P99.Duration))
		}
	}
	return ". Measured: " + strings.Join(words, "; ")
}

// boundedReasons keeps to what the status may hold.
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
