package controllers

import (
	"cmp"
	"context"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// observe makes the observer track the simulation's servers, and examines the latest observation. When the simulation
// is complete, observe stops the tracking.
func (r *Reconciler) observe(_ context.Context, s *scope) error {
	if s.isComplete() {
		r.observer.Untrack(s.key)
		return nil
	}
	remembered := r.cleaner.Remembered(s.key)
	broker, store := s.observedBinding(s.broker, remembered.Broker), s.observedBinding(s.store, remembered.Store)
	s.findings.ledger = s.notRead(broker, store)
	if broker == nil || store == nil || s.store.managed && s.findings.store.state != ready {
		return nil
	}
	target := observer.Target{
		Plan: observedPlan(s.plan), Broker: *broker, Store: *store, Timeline: ledger.ForeseesFromTimeline(s.plan),
		ProbeBroker: !s.broker.managed, ProbeStore: s.probesStore(),
	}
	r.observer.Track(s.key, target, s.draining())
	s.timeline = r.observer.Timeline(s.key)
	if s.observation = r.observer.Latest(s.key); s.observation == nil {
		return nil
	}
	s.assessObservation()
	if s.observation.Err() == nil {
		s.sim.Status.Ledger = ledgerStatus(s.observation)
	}
	return nil
}

// observedBinding returns the binding with which the observer connects, or nil if unknown. After a started simulation's
// Secret is deleted, pods and observer use the last known binding.
func (s *scope) observedBinding(of server, remembered *binding.Binding) *binding.Binding {
	if of.binding == nil && of.finding.reason == reasonSecretMissing && s.sim.Status.StartTime != nil {
		return remembered
	}
	return of.binding
}

// notRead returns the finding that the operator has no current reading of the ledger. broker and store are nil if they
// are unknown.
func (s *scope) notRead(broker, store *binding.Binding) finding {
	message := "The ledger has not been read yet"
	if status := s.sim.Status.Ledger; status != nil && status.ObservedTime != nil {
		message = "The ledger was last read at " + status.ObservedTime.UTC().Format(time.RFC3339)
	}
	switch {
	case broker == nil:
		message += ": the binding of RabbitMQ is unknown: see condition " + v1alpha1.ConditionBrokerReady
	case store == nil:
		message += ": the binding of Redis is unknown: see condition " + v1alpha1.ConditionStoreReady
	case s.store.managed && s.findings.store.state != ready:
		message += ": Redis is not ready"
	}
	return found(progressing, reasonNotRead, "%s", message)
}

// foresee examines whether the verdict can still be PASS. If not, and if the spec sets abortOnFailure, foresee ends
// the simulation early.
func (r *Reconciler) foresee(_ context.Context, s *scope) error {
	isRead := s.observation != nil && s.observation.Err() == nil
	if s.isComplete() || !isRead {
		return nil
	}
	e := ledger.EvidenceSoFar(s.plan, &s.observation.Report, s.timeline, nil, s.accountsSoFar)
	e.FaultHistory = s.faultHistory
	e.Depths, e.DeadReasons = s.observation.Depths, s.observation.DeadReasons
	failed := ledger.CertainFailures(e)
	r.observer.MarkFailed(s.key, s.observation.At, failed)
	s.findings.objectives = foreseen(failed)
	s.abortIfFailed(failed)
	if s.isAborted() && len(failed) == 0 { // the verdict of an aborted simulation stays FAIL, even if the latest measurements show no failure
		s.findings.objectives = found(stalled, reasonObjectivesUnmet, "%s", s.abortReason())
	}
	return nil
}

// abortReason returns why the operator ended the simulation early. Earlier operator versions did not store the reason.
func (s *scope) abortReason() string {
	return cmp.Or(s.sim.Status.AbortReason, "at least one check had failed for good")
}

// abortIfFailed ends the simulation early if a check has failed for good and the spec sets abortOnFailure.
func (s *scope) abortIfFailed(failed []ledger.Check) {
	running := s.sim.Status.StartTime != nil && !s.generatorsDone()
	if running && s.plan.Objectives.AbortOnFailure && len(failed) > 0 {
		s.sim.Status.AbortTime, s.sim.Status.AbortReason = wholeSeconds(s.now), excerpt.Of(failed[0].Message, maxReason)
		s.wakeAfter(0) // the next reconcile reads the abort time from the status and stops the generators
	}
}

// probesStore reports whether the observer checks that the simulation can write to Redis. The observer always checks an
// external Redis. It checks a managed Redis only for the durability Synced, because an old version may lack the command
// WAITAOF.
func (s *scope) probesStore() bool {
	return !s.store.managed || s.plan.Durability != plan.DurabilityWritten
}

// assessObservation sets the findings about the ledger and the servers.
func (s *scope) assessObservation() {
	now := s.observation
	s.findings.ledger = found(ready, reasonRead, "The ledger can be read")
	if err := now.Err(); err != nil {
		s.findings.ledger = found(stalled, reasonUnreadable, "%s", err)
	}
	if !s.store.managed && s.store.finding.state == unchecked {
		s.findings.store = s.store.reached(now.StoreErr, now.StoreUnusable)
	}
	if s.store.managed && now.StoreUnusable != nil {
		s.findings.store = s.store.reached(nil, now.StoreUnusable)
	}
	if !s.broker.managed && s.broker.finding.state == unchecked {
		s.findings.broker = s.broker.reached(now.BrokerErr, now.BrokerUnusable)
	}
}

// foreseen returns the finding for the condition ObjectivesMet of a running simulation. The checks in failed cannot
// pass any more.
func foreseen(failed []ledger.Check) finding {
	if len(failed) > 0 {
		return found(stalled, reasonObjectivesUnmet, "%s", strings.Join(boundedReasons(ledger.Messages(failed)), "; "))
	}
	return verdictPending()
}

// verdictPending returns the finding for the condition ObjectivesMet while the verdict can still be PASS.
func verdictPending() finding {
	return found(progressing, reasonNotComplete, "The verdict follows when the simulation is complete")
}

func ledgerStatus(now *observer.Observation) *v1alpha1.LedgerStatus {
	at := metav1.NewTime(now.At.Truncate(time.Second)) // times in the status have a precision of seconds
	l := now.Report
	status := &v1alpha1.LedgerStatus{
		ObservedTime:            &at,
		Processed:               l.Processed(),
		EntriesConfirmed:        l.EntriesConfirmed,
		EntriesRecorded:         l.EntriesRecorded,
		ExitsMatchedConfirmed:   l.ExitsMatchedConfirmed,
		ExitsUnmatchedConfirmed: l.ExitsUnmatchedConfirmed,
		Matched:                 l.Matched,
		UnmatchedExpected:       l.UnmatchedExpected,
		UnmatchedUnexpected:     l.UnmatchedUnexpected,
		SummariesStored:         l.SummariesStored,
		DuplicatesSuppressed:    l.DuplicatesSuppressed,
		DeadLettered:            max(l.DeadLettered, now.Depths.Dead),
		Indeterminate:           l.Indeterminate,
		Starved:                 l.Starved,
		ExternalEntries:         l.ExternalEntries,
		ExternalMatched:         l.ExternalMatched,
		EntryNotFound:           l.EntryNotFound,
	}
	if l.DataLostAt != nil {
		status.DataLostTime = new(metav1.NewTime(l.DataLostAt.Truncate(time.Second)))
	}
	if now.Rest != nil && now.Rest.Report.AtRest {
		status.Lost = &now.Rest.Report.Lost
	}
	return status
}
