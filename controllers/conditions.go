package controllers

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/excerpt"
)

// maxMessage is the longest message that the API server takes, in bytes.
const maxMessage = 32768

// conditionsOf returns the conditions of a simulation. A part that was not checked has none, so that what
// is known of it from before stays. Reconciling and Stalled are there only while they are True.
func conditionsOf(f findings) []metav1.Condition {
	var all []metav1.Condition
	for _, part := range []struct {
		condition string
		finding   finding
	}{
		{v1alpha1.ConditionBrokerReady, f.broker},
		{v1alpha1.ConditionStoreReady, f.store},
		{v1alpha1.ConditionSummaryAPIReady, f.summaryAPI},
		{v1alpha1.ConditionWorkloadsReady, f.workloads},
		{v1alpha1.ConditionMonitoringReady, f.monitoring},
		{v1alpha1.ConditionLedgerReadable, f.ledger},
		{v1alpha1.ConditionComplete, f.completion},
		{v1alpha1.ConditionObjectivesMet, f.objectives},
	} {
		if part.finding.state != unchecked {
			all = append(all, condition(part.condition, statusOf(part.condition, part.finding), part.finding))
		}
	}
	return append(all, summarize(f)...)
}

// statusOf is True for what is good. What was never measured is Unknown rather than False.
func statusOf(kind string, f finding) metav1.ConditionStatus {
	unmeasured := kind == v1alpha1.ConditionLedgerReadable || kind == v1alpha1.ConditionObjectivesMet
	switch {
	case f.state == good:
		return metav1.ConditionTrue
	case unmeasured && f.state == progressing:
		return metav1.ConditionUnknown
	default:
		return metav1.ConditionFalse
	}
}

// summarize returns Ready, and Reconciling or Stalled if either holds.
func summarize(f findings) []metav1.Condition {
	worst := worstOf(f.spec, f.objects, f.broker, f.store, f.summaryAPI, f.workloads)
	switch worst.state {
	case stalled:
		return []metav1.Condition{
			condition(v1alpha1.ConditionReady, metav1.ConditionFalse, worst),
			condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, worst),
		}
	case progressing:
		return []metav1.Condition{
			condition(v1alpha1.ConditionReady, metav1.ConditionFalse, worst),
			condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, worst),
		}
	default:
		return []metav1.Condition{condition(v1alpha1.ConditionReady, metav1.ConditionTrue, readiness(f))}
	}
}

// readiness says what a simulation with which nothing is wrong does.
func readiness(f findings) finding {
	switch {
	case f.complete:
		return found(good, reasonComplete, "The simulation ran to completion")
	case f.suspended:
		return found(good, reasonSuspended, "The generators are stopped because spec.suspend is true")
	}
	message := "Generators and processors run"
	if len(f.warnings) > 0 {
		message += "; note: " + strings.Join(f.warnings, "; ")
	}
	return found(good, reasonRunning, "%s", message)
}

// worstOf returns the first stalled finding, or else the first that progresses, or else a good one: causes
// are listed before their consequences.
func worstOf(all ...finding) finding {
	worst := finding{state: good}
	for _, f := range all {
		if f.state == stalled {
			return f
		}
		if f.state == progressing && worst.state != progressing {
			worst = f
		}
	}
	return worst
}

func condition(kind string, status metav1.ConditionStatus, f finding) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: f.reason, Message: excerpt.Of(f.message, maxMessage)}
}
