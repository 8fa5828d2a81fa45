package controllers

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/excerpt"
)

// maxMessage is the maximum length of a condition's message in bytes.
const maxMessage = 32768

// part is a part of a simulation that has its own condition, such as the broker.
type part struct {
	condition string
	finding   *finding
}

// parts returns the findings about the parts of a simulation, in the order in which the status lists their conditions.
func (f *findings) parts() []part {
	return []part{
		{v1alpha1.ConditionBrokerReady, &f.broker},
		{v1alpha1.ConditionStoreReady, &f.store},
		{v1alpha1.ConditionSummaryAPIReady, &f.summaryAPI},
		{v1alpha1.ConditionWorkloadsReady, &f.workloads},
		{v1alpha1.ConditionMonitoringReady, &f.monitoring},
		{v1alpha1.ConditionLedgerReadable, &f.ledger},
		{v1alpha1.ConditionComplete, &f.completion},
		{v1alpha1.ConditionObjectivesMet, &f.objectives},
	}
}

// setUnexamined sets the conditions of the parts that this reconcile has not examined to Unknown, because their values
// may be outdated. It adds no conditions.
func (f *findings) setUnexamined(before []metav1.Condition) {
	for _, p := range f.parts() {
		if p.finding.state == unchecked && meta.FindStatusCondition(before, p.condition) != nil {
			*p.finding = found(unknown, reasonNotExamined, "Not examined until the spec is corrected: see condition %s", v1alpha1.ConditionStalled)
		}
	}
}

// conditionsOf computes the conditions from the findings. It returns no condition for a part that was not examined:
// the existing condition stays. It returns Reconciling and Stalled only if they are True.
func conditionsOf(f findings) []metav1.Condition {
	var all []metav1.Condition
	for _, p := range f.parts() {
		if p.finding.state != unchecked {
			all = append(all, condition(p.condition, statusOf(p.condition, *p.finding), *p.finding))
		}
	}
	return append(all, summarize(f)...)
}

// statusOf returns the status of a condition. A part that could not be examined, and a measurement without a result,
// are Unknown.
func statusOf(kind string, f finding) metav1.ConditionStatus {
	measured := kind == v1alpha1.ConditionLedgerReadable || kind == v1alpha1.ConditionObjectivesMet
	switch {
	case f.state == ready:
		return metav1.ConditionTrue
	case f.state == unknown, measured && f.state == progressing:
		return metav1.ConditionUnknown
	default:
		return metav1.ConditionFalse
	}
}

// summarize returns Ready and, if the simulation is not ready, Reconciling or Stalled. Tools that use kstatus show the
// message of Reconciling or Stalled.
func summarize(f findings) []metav1.Condition {
	worst, source := f.worst()
	switch worst.state {
	case stalled:
		return []metav1.Condition{
			condition(v1alpha1.ConditionReady, metav1.ConditionFalse, seeCondition(worst, orElse(source, v1alpha1.ConditionStalled))),
			condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, worst),
		}
	case progressing:
		return []metav1.Condition{
			condition(v1alpha1.ConditionReady, metav1.ConditionFalse, seeCondition(worst, orElse(source, v1alpha1.ConditionReconciling))),
			condition(v1alpha1.ConditionReconciling, metav1.ConditionTrue, worst),
		}
	default:
		return []metav1.Condition{condition(v1alpha1.ConditionReady, metav1.ConditionTrue, readiness(f))}
	}
}

func seeCondition(f finding, source string) finding {
	return found(f.state, f.reason, "Not ready: see condition %s", source)
}

// worst returns the most serious finding, which determines readiness, and the condition that shows it. The condition
// is "" for findings about spec, objects and volumes.
func (f *findings) worst() (worst finding, condition string) {
	candidates := []part{{"", &f.spec}, {"", &f.objects}}
	if !f.complete { // a complete simulation needs no servers, workloads or volumes
		candidates = append(append(candidates, f.parts()[:4]...), part{"", &f.volumes})
	}
	worst = finding{state: ready}
	for _, p := range candidates {
		if p.finding.isWorseThan(worst) {
			worst, condition = *p.finding, p.condition
		}
	}
	return worst, condition
}

// readiness returns the reason and message for the condition Ready of a simulation that is ready.
func readiness(f findings) finding {
	switch {
	case f.complete:
		return found(ready, reasonComplete, "The simulation is complete")
	case f.suspended:
		return found(ready, reasonSuspended, "The generators are stopped because spec.suspend is true")
	}
	message := f.running
	if len(f.notes) > 0 {
		message += "; note: " + strings.Join(f.notes, "; ")
	}
	return found(ready, reasonRunning, "%s", message)
}

func (f finding) isWorseThan(other finding) bool { return f.state > other.state }

// worstOf returns the finding with the worst state. If several are equally bad, it returns the first of them,
// because callers list causes before consequences.
func worstOf(all ...finding) finding {
	worst := finding{state: ready}
	for _, f := range all {
		if f.isWorseThan(worst) {
			worst = f
		}
	}
	return worst
}

func condition(kind string, status metav1.ConditionStatus, f finding) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: f.reason, Message: excerpt.Of(f.message, maxMessage)}
}
