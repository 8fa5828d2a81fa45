package controllers

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// endOf returns when the generators stop for good: at the end of the duration, or at an earlier abort. ok is false if
// there is no such time.
func endOf(sim *v1alpha1.ParkingSimulation) (end time.Time, ok bool) {
	start, duration := sim.Status.StartTime, sim.Spec.Duration.Value()
	if start == nil {
		return time.Time{}, false
	}
	end = start.Add(duration)
	if abort := sim.Status.AbortTime; abort != nil && (duration == 0 || abort.Time.Before(end)) {
		return abort.Time, true
	}
	return end, duration > 0
}

// isAborted reports whether the operator ended the simulation early.
func (s *scope) isAborted() bool { return s.sim.Status.AbortTime != nil }

// drainDeadline returns the time at which the drain timeout expires. It returns false if the end of the schedule is
// unknown; see endOf.
func (s *scope) drainDeadline() (deadline time.Time, ok bool) {
	end, ok := endOf(s.sim)
	return end.Add(s.sim.Spec.DrainTimeout.Value()), ok
}

// drainTimedOut reports whether the drain timeout has expired. It returns false if the simulation is complete.
func (s *scope) drainTimedOut() bool {
	deadline, ok := s.drainDeadline()
	return ok && !s.now.Before(deadline) && !s.isComplete()
}

// generatorsDone reports whether the generators must publish no more events: the run has ended or was aborted, or the
// simulation is complete.
func (s *scope) generatorsDone() bool {
	end, ok := endOf(s.sim)
	return s.isComplete() || ok && !s.now.Before(end)
}

// isDraining reports whether the generators are stopped and their pods have ended. In this state, no event is
// published, and the processors only empty the queues.
func (s *scope) isDraining() bool {
	if !s.generatorsDone() || s.isComplete() {
		return false
	}
	for _, c := range []resources.Component{resources.ComponentEntry, resources.ComponentExit} {
		if w := s.workloads[c]; w.desired > 0 || !w.observed || w.pods > 0 || len(s.livePodsOf(c)) > 0 {
			return false
		}
	}
	return true
}

// draining returns the input for the observer's final audit. It is nil while the audit must wait for generators or the
// summary API, at most until the drain timeout.
func (s *scope) draining() *observer.Draining {
	// The audit asks a pod of the summary API for the number of summaries.
	d := &observer.Draining{SummariesPod: s.serverIn(resources.ComponentSummaries, s.addressOf(resources.ComponentSummaries))}
	d.SummariesDown = d.SummariesPod.IP == "" && s.lacksSummaryAPI()
	if !s.drainTimedOut() && (d.SummariesDown || !s.isDraining()) {
		return nil
	}
	d.Deadline, _ = s.drainDeadline()
	return d
}

// lacksSummaryAPI reports whether the pods of a managed summary API are missing or not ready.
func (s *scope) lacksSummaryAPI() bool {
	w := s.workloads[resources.ComponentSummaries]
	return s.sim.Spec.SummaryAPI.ManagedOrDefault() != nil && !w.isReady()
}

// observedPlan returns a copy of a plan without the fields that the observer does not use. So a change of these fields
// does not restart the observation.
func observedPlan(p *plan.Plan) *plan.Plan {
	observed := *p
	observed.StartTime, observed.Suspended = time.Time{}, false
	return &observed
}

// assessProgress examines how close the simulation is to completion, requests a reconcile at the time when the duration
// ends, and writes the current rates.
func (r *Reconciler) assessProgress(_ context.Context, s *scope) error {
	end, ends := endOf(s.sim)
	var f finding
	switch {
	case s.isComplete():
		f = s.completeFinding()
		s.findings.objectives = verdictFinding(&s.sim.Status)
	case s.sim.Spec.Duration == nil && !s.isAborted():
		f = found(progressing, reasonNoDuration, "The simulation runs until it is deleted: spec.duration is not set")
	case s.sim.Status.StartTime == nil && s.sim.Spec.Suspend:
		f = found(progressing, reasonNotStarted, "The simulation has not started, because spec.suspend is true")
	case s.sim.Status.StartTime == nil:
		f = found(progressing, reasonNotStarted, "The simulation has not started")
	case ends && s.now.Before(end):
		f = found(progressing, reasonRunning, "The generators stop at %s", end.UTC().Format(time.RFC3339))
		s.wakeAfter(end.Sub(s.now))
	case !s.isDraining():
		f = found(progressing, reasonStopping, "%s; the generators are stopping", s.endReason())
	case *s.sim.Spec.Processor.Replicas == 0:
		f = found(progressing, reasonDraining, "%s, but no processor empties the queues: spec.processor.replicas is 0", s.endReason())
	default:
		f = found(progressing, reasonDraining, "The generators have stopped; the processors are emptying the queues")
	}
	s.wakeAtDeadline()
	s.findings.completion = f
	if s.findings.objectives.state == unchecked && !meta.IsStatusConditionFalse(s.before.Status.Conditions, v1alpha1.ConditionObjectivesMet) {
		s.findings.objectives = verdictPending()
	}
	s.setTargetRates()
	return nil
}

// endReason returns why the generators stop for good: the duration is over, or the simulation was aborted.
func (s *scope) endReason() string {
	if s.isAborted() {
		return "The simulation ends early, because the verdict can only be FAIL"
	}
	return "The duration is over"
}

// wakeAtDeadline requests two reconciles: one when the drain timeout expires, and one when the verdict stops waiting
// for the observer.
func (s *scope) wakeAtDeadline() {
	deadline, ok := s.drainDeadline()
	if !ok || s.isComplete() {
		return
	}
	for _, at := range []time.Time{deadline, deadline.Add(giveUpTime)} {
		if left := at.Sub(s.now); left > 0 {
			s.wakeAfter(left)
		}
	}
}

// wholeSeconds truncates a time to seconds, because times in the API have this precision.
func wholeSeconds(t time.Time) *metav1.Time { return new(metav1.NewTime(t.Truncate(time.Second))) }

func (s *scope) completeFinding() finding {
	message := s.endReason() + ", and the verdict is final"
	if s.isAborted() {
		message = "The simulation ended early, because the verdict could only be FAIL"
	}
	if ignored := s.ignoredEdits(); ignored != "" {
		message += "; " + ignored
	}
	return found(ready, reasonComplete, "%s", message)
}

// start sets the start time of the schedules as soon as everything that the generators need is ready.
func (r *Reconciler) start(_ context.Context, s *scope) error {
	if s.sim.Status.StartTime != nil || s.sim.Spec.Suspend || s.isWithheld() || len(s.missing) > 0 {
		return nil
	}
	waitsFor := worstOf(s.findings.objects, s.findings.broker, s.findings.store, s.findings.summaryAPI,
		s.workloads[resources.ComponentProcessor].assess("processors"))
	if waitsFor.state != ready {
		return nil
	}
	s.sim.Status.StartTime, s.sim.Status.RunSettings = wholeSeconds(s.now), runSettings(s.sim)
	s.wakeAfter(0) // the next reconcile copies the start time from the status to the plan
	return nil
}

// generates reports whether the generators of a component should have pods.
func (s *scope) generates(c resources.Component) bool {
	key := childKey{"Deployment", resources.Name(s.sim, c)}
	// While a Secret is missing, a Deployment with 0 replicas gets no pods.
	waits := len(s.missing) > 0 && len(mountedSecrets(s.children[key])) == 0
	return s.workloads[c].desired > 0 && !s.withheld[key] && !waits
}

// rateInterval is the time between two updates of the rates in the status while the scheduled rate is changing.
const rateInterval = 15 * time.Second

// setTargetRates writes the current scheduled rates to the status. As long as the rates can still change,
// setTargetRates requests another reconcile.
func (s *scope) setTargetRates() {
	rates := &v1alpha1.TargetRates{}
	s.sim.Status.TargetRates = rates
	start := s.sim.Status.StartTime
	if start == nil || s.sim.Spec.Suspend || s.generatorsDone() {
		return
	}
	// Round the elapsed time down to a multiple of rateInterval, so that the status does not change at every reconcile.
	elapsed := s.now.Sub(start.Time)
	step := elapsed.Truncate(rateInterval)
	if s.generates(resources.ComponentEntry) {
		rates.Entry = s.plan.Entry.RateAt(step)
	}
	if s.generates(resources.ComponentExit) {
		rates.Exit = s.plan.Exit.RateAt(step - s.plan.ExitDelay())
	}
	if step < s.plan.Entry.Length() || step < s.plan.Exit.Length()+s.plan.ExitDelay() {
		s.wakeAfter(step + rateInterval - elapsed)
	}
}
