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

// endOf returns when the duration of a simulation ends, or when the simulation was aborted. It returns false if the
// simulation has not started or has no duration.
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

// drainDeadline returns when the drain timeout expires. It returns false if the simulation has no end.
func (s *scope) drainDeadline() (deadline time.Time, ok bool) {
	end, ok := endOf(s.sim)
	return end.Add(s.sim.Spec.DrainTimeout.Value()), ok
}

// drainTimedOut reports whether the drain timeout has expired.
func (s *scope) drainTimedOut() bool {
	deadline, ok := s.drainDeadline()
	return ok && !s.now.Before(deadline) && !s.isComplete()
}

// generatorsDone reports whether the generators must stop and not start again.
func (s *scope) generatorsDone() bool {
	end, ok := endOf(s.sim)
	return s.isComplete() || ok && !s.now.Before(end)
}

// isDraining reports whether the generators are stopped and their pods have ended. No further event is published
// then, and the processors only have to empty the queues.
func (s *scope) isDraining() bool {
	if !s.generatorsDone() || s.isComplete() {
		return false
	}
	for _, c := range []resources.Component{resources.ComponentEntry, resources.ComponentExit} {
		if w := s.workloads[c]; w.desired > 0 || !w.observed || w.pods > 0 || len(s.podsOf(c)) > 0 {
			return false
		}
	}
	return true
}

// draining returns the input for the observer's final audit, or nil while generators may still run. After the drain
// timeout, it does not wait for the generators.
func (s *scope) draining() *observer.Draining {
	if !s.isDraining() && !s.drainTimedOut() {
		return nil
	}
	d := &observer.Draining{}
	d.Deadline, _ = s.drainDeadline()
	if summaries := s.addressesOf(resources.ComponentSummaries); len(summaries) > 0 {
		d.SummariesPod = summaries[0]
	}
	return d
}

// observedPlan returns the part of a plan that the observer uses. An edit of the other parts does not restart the
// observation.
func observedPlan(p *plan.Plan) *plan.Plan {
	observed := *p
	observed.StartTime, observed.Suspended = time.Time{}, false
	return &observed
}

// assessProgress sets the finding about the progress towards completion, requests a reconcile for the end of the
// duration, and writes the current rates.
func (r *Reconciler) assessProgress(_ context.Context, s *scope) error {
	end, ends := endOf(s.sim)
	var f finding
	switch {
	case s.isComplete():
		f = s.completeFinding()
		s.findings.objectives = verdictFinding(&s.sim.Status)
	case s.sim.Spec.Duration == nil && !s.isAborted():
		f = found(progressing, reasonNoDuration, "The simulation runs until it is deleted: spec.duration is not set")
	case s.sim.Status.StartTime == nil:
		f = found(progressing, reasonNotStarted, "The simulation has not started")
	case ends && s.now.Before(end):
		f = found(progressing, reasonRunning, "The generators stop at %s", end.UTC().Format(time.RFC3339))
		s.wakeAfter(end.Sub(s.now))
	case !s.isDraining():
		f = found(progressing, reasonStopping, "%s; the generators are stopping", s.overMessage())
	case *s.sim.Spec.Processor.Replicas == 0:
		f = found(progressing, reasonDraining, "%s, but no processor empties the queues: spec.processor.replicas is 0", s.overMessage())
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

// overMessage returns the reason why the generators stop for good: the duration has ended, or the simulation was
// aborted.
func (s *scope) overMessage() string {
	if s.isAborted() {
		return "The simulation ends early, because the verdict can only be FAIL"
	}
	return "The duration is over"
}

// wakeAtDeadline requests a reconcile for the end of the drain timeout, and another one for the time by which the
// observer must have given up.
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

// editIgnored is the end of a message about an edit that has no effect.
const editIgnored = "has no effect: to run again, delete the simulation and create it again"

// ignoredDuration returns a message if spec.duration was changed after completion, which has no effect. Otherwise it
// returns "".
func (s *scope) ignoredDuration() string {
	ended := s.sim.Status.EndTime
	if !s.isComplete() || ended == nil { // an earlier version of the operator did not set the end time
		return ""
	}
	if end, ok := endOf(s.sim); ok && ended.Equal(wholeSeconds(end)) {
		return ""
	}
	return "the change of spec.duration after completion " + editIgnored
}

// wholeSeconds truncates a time to seconds, the precision of the API.
func wholeSeconds(t time.Time) *metav1.Time { return new(metav1.NewTime(t.Truncate(time.Second))) }

func (s *scope) completeFinding() finding {
	message := s.overMessage() + " and the queues are empty"
	if s.isAborted() {
		message = "The simulation was ended early, because the verdict could only be FAIL"
	}
	if ignored := s.ignoredDuration(); ignored != "" {
		message += "; " + ignored
	}
	return found(ready, reasonComplete, "%s", message)
}

// start sets the start time of the schedules once everything that the generators need is ready for the first time.
func (r *Reconciler) start(_ context.Context, s *scope) error {
	if s.sim.Status.StartTime != nil || s.sim.Spec.Suspend {
		return nil
	}
	waitsFor := worstOf(s.findings.broker, s.findings.store, s.findings.summaryAPI,
		s.workloads[resources.ComponentProcessor].assess("processors"))
	if waitsFor.state != ready {
		return nil
	}
	s.sim.Status.StartTime, s.sim.Status.StartGeneration = wholeSeconds(s.now), s.sim.Generation
	s.wakeAfter(0) // write the start time to the plan after it is in the status
	return nil
}

// rateInterval is the interval at which the rates in the status are updated while a stage changes them.
const rateInterval = 15 * time.Second

// setTargetRates writes the current rates of the schedules to the status. While a stage changes them, it requests
// another reconcile.
func (s *scope) setTargetRates() {
	rates := &v1alpha1.TargetRates{}
	s.sim.Status.TargetRates = rates
	start := s.sim.Status.StartTime
	if start == nil || s.sim.Spec.Suspend || s.generatorsDone() {
		return
	}
	// The time is rounded to the interval, so that reconciles within an interval do not change the status.
	elapsed := s.now.Sub(start.Time)
	step := elapsed.Truncate(rateInterval)
	rates.Entry, rates.Exit = s.plan.Entry.RateAt(step), s.plan.Exit.RateAt(step-s.plan.Exit.MinStay.D())
	if step < s.plan.Entry.Length() || step < s.plan.Exit.Length()+s.plan.Exit.MinStay.D() {
		s.wakeAfter(step + rateInterval - elapsed)
	}
}
