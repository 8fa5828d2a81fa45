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

// rehearse makes the operator inject the faults of the simulation, and reads the records of the injected faults. If
// the faults are removed from the spec, their records remain.
func (r *Reconciler) rehearse(_ context.Context, s *scope) error {
	_, hasRecords := s.children[faultsKey(s)]
	start := s.sim.Status.StartTime
	if start == nil || s.isComplete() || len(s.plan.Faults) == 0 && !hasRecords {
		r.rehearsals.Untrack(s.key)
		return nil
	}
	r.rehearsals.Track(s.key, rehearsal.Target{
		Simulation: s.sim.DeepCopy(), Plan: s.plan, Start: start.Time, Agents: s.credentials.Agent,
	})
	if s.faults, s.faultsKnown = r.rehearsals.Records(s.key); s.faultsKnown {
		accounts := s.accountsSoFar()
		s.sim.Status.Faults = faultsStatus(accounts)
		if slices.ContainsFunc(accounts, func(a fault.Account) bool { return !a.Outcome.IsFinal() }) {
			s.wakeAfter(accountInterval)
		}
	}
	return nil
}

// accountInterval is the interval of reconciles while a simulation has not yet recovered from all of its faults.
const accountInterval = 5 * time.Second

// accountsSoFar returns, for each fault, its effect so far and whether the simulation has recovered from it. It is
// used before the simulation is complete.
func (s *scope) accountsSoFar() []fault.Account {
	end, ends := endOf(s.sim)
	if !ends {
		end = time.Time{}
	}
	return fault.Accounts(s.faults, fault.RunSoFar(s.timeline, end))
}

// faultsEnded reports whether all faults have ended, so that no fault affects the simulation any more.
func (s *scope) faultsEnded() bool {
	if len(s.plan.Faults) == 0 && !s.faultsKnown {
		return true
	}
	unfinished := func(r fault.Record) bool { return r.State == fault.Injecting || r.State == fault.Active }
	if !s.faultsKnown || slices.ContainsFunc(s.faults, unfinished) {
		s.wakeAfter(time.Second)
		return false
	}
	return true
}

// accounts returns, for each fault, its effect and whether the simulation has recovered from it. It is used when the
// simulation becomes complete.
func (s *scope) accounts() []fault.Account {
	rest := s.observation.Rest
	run := fault.Run{Rows: rest.Timeline, Ended: true}
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
			kind, reason, message = corev1.EventTypeWarning, "FaultNotInjected", what+", was not injected: "+r.Reason
		case fault.Aborted:
			kind, reason, message = corev1.EventTypeWarning, "FaultAborted", what+", was aborted: "+r.Reason
		default:
			return
		}
		recorder.Eventf(sim, nil, kind, reason, "Inject", "%s", excerpt.Of(message, maxNote))
	}
}

// faultsKey returns the key of the ConfigMap with the records of injected faults.
func faultsKey(s *scope) childKey { return childKey{"ConfigMap", resources.FaultsName(s.sim)} }
