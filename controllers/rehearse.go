package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/rehearsal"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// rehearse starts the injection of the simulation's faults, and reads the records of injected faults. It also reads the
// records of faults that were removed from the spec.
func (r *Reconciler) rehearse(_ context.Context, s *scope) error {
	_, hasRecords := s.children[faultsKey(s)]
	start := s.sim.Status.StartTime
	if start == nil || s.isComplete() || len(s.plan.Faults) == 0 && !hasRecords {
		r.rehearsals.Untrack(s.key)
		return nil
	}
	r.rehearsals.Track(s.key, rehearsal.Target{
		Simulation: s.sim.DeepCopy(), Plan: s.plan, Start: start.Time, FaultsEdited: s.faultsEdited, Agents: s.credentials.Agent,
	})
	if s.faults, s.faultsKnown = r.rehearsals.Records(s.key); s.faultsKnown {
		s.faultHistory = r.rehearsals.History(s.key)
		s.accountsSoFar = r.rehearsals.Settle(s.key, s.runSoFar())
		r.notify(s, recoveries(s.faults, s.accountsSoFar))
		if settled, known := r.rehearsals.Records(s.key); known {
			s.faults = settled // Settle has added the measured effects
		}
		s.sim.Status.Faults = faultsStatus(s.accountsSoFar, s.faultHistory)
		if slices.ContainsFunc(s.accountsSoFar, func(a fault.Account) bool { return !a.Outcome.IsFinal() }) {
			s.wakeAfter(accountInterval)
		}
	}
	err := r.rehearsals.Err(s.key)
	s.holdPods(hasRecords && err == nil)
	if err != nil {
		// The rehearsal itself retries reads and writes of the records.
		_ = r.applyFailed(s, faultsKey(s), err) // a condition shows this error, so it need not be returned
		s.wakeAfter(accountInterval)
	}
	return nil
}

// holdPods makes edits of workloads wait during a Pause or Isolate, because new pods would end the fault early. If
// loading is true, edits also wait until the records of the faults are loaded.
func (s *scope) holdPods(loading bool) {
	if !s.faultsKnown && loading {
		s.held = hold{reasonFaultInEffect, "the operator has loaded the records of the faults"} // completes the message "The change waits until …"
		s.wakeAfter(time.Second)
	}
	// Only a Pause or Isolate delays edits. After any other fault, the target may need an edit to start again.
	for i := range s.faults {
		if f := &s.faults[i]; f.Action.Lasts() && !f.IsFinal() && len(f.Chosen) > 0 {
			s.held = hold{reasonFaultInEffect, "fault " + f.ID() + " has ended"}
			return
		}
	}
}

// isHeld reports whether an edit of an object must wait for the end of a fault, or for a missing Secret.
func (s *scope) isHeld(key childKey) bool {
	if s.held.until == "" || s.isWithheld() || s.withheld[key] {
		return false // pods that must not use an object must stop at once
	}
	// Edits of Services, NetworkPolicies and the agents' Secret can interrupt connections to the agents. Other edits
	// replace pods, or wait together with edits that do.
	switch key.kind {
	case "Deployment", "StatefulSet", "PodDisruptionBudget", "Service", "NetworkPolicy":
		return true
	}
	return key == agentSecretKey(s) || key.kind == "ConfigMap" && isServerName(s, key.name)
}

// isServerName reports whether the objects of a managed RabbitMQ or Redis have the given name.
func isServerName(s *scope, name string) bool {
	return name == resources.Name(s.sim, resources.ComponentRabbitMQ) || name == resources.Name(s.sim, resources.ComponentRedis)
}

func agentSecretKey(s *scope) childKey {
	return childKey{"Secret", resources.Name(s.sim, resources.ComponentAgent)}
}

// accountInterval is how often a simulation is reconciled until it has recovered from all of its faults.
const accountInterval = 5 * time.Second

func (s *scope) runSoFar() fault.Run {
	end, ends := endOf(s.sim)
	if !ends {
		end = time.Time{}
	}
	return fault.RunSoFar(s.timeline, end)
}

func (s *scope) faultsEnded() bool {
	if len(s.plan.Faults) == 0 && !s.faultsKnown {
		return true
	}
	unfinished := func(r fault.Record) bool { return !r.IsFinal() }
	if !s.faultsKnown || slices.ContainsFunc(s.faults, unfinished) {
		s.wakeAfter(time.Second)
		return false
	}
	return true
}

// accounts returns the final account of each fault: its effect, and whether the simulation has recovered from the
// fault.
func (s *scope) accounts() []fault.Account {
	rest := s.observation.Rest
	run := fault.Run{Rows: rest.Timeline, Ended: true, Aborted: s.isAborted(), History: s.faultHistory}
	run.End, _ = endOf(s.sim)
	if rest.Err == nil && rest.Report.AtRest {
		run.Lost = &rest.Report.Lost
	}
	return fault.Accounts(s.faults, run)
}

// faultEvents returns a function that records the progress of faults as Kubernetes events about their simulation.
func faultEvents(recorder events.EventRecorder) func(*v1alpha1.ParkingSimulation, fault.Record) {
	return func(sim *v1alpha1.ParkingSimulation, r fault.Record) {
		kind := corev1.EventTypeNormal
		var reason, message string
		what := fmt.Sprintf("Fault %s, %s of %s", r.ID(), r.Action, r.Target)
		switch r.State {
		case fault.Active:
			reason, message = "FaultInjected", what+", hit "+strings.Join(r.Hit, ", ")
		case fault.Healed:
			reason, message = "FaultEnded", fmt.Sprintf("%s, ended after %s", what, r.HealedAt.Sub(r.InjectedAt).Round(time.Millisecond))
		case fault.NotInjected:
			kind, reason, message = corev1.EventTypeWarning, "FaultNotInjected", what+", "+r.Failure()
		case fault.Aborted:
			kind, reason, message = corev1.EventTypeWarning, "FaultAborted", what+", was aborted: "+r.Reason
		default:
			return
		}
		recorder.Eventf(faultReference(sim, r.ID()), nil, kind, reason, "Inject", "%s", excerpt.Of(message, maxNote))
	}
}

// faultReference returns a reference to one occurrence of a fault. The recorder combines events with equal references,
// so each occurrence has its own.
func faultReference(sim *v1alpha1.ParkingSimulation, id string) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "ParkingSimulation", Namespace: sim.Namespace, Name: sim.Name, UID: sim.UID,
		FieldPath: "spec.faults{" + id + "}",
	}
}

func faultsKey(s *scope) childKey { return childKey{"ConfigMap", resources.FaultsName(s.sim)} }
