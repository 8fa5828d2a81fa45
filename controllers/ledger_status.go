package controllers

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

// ledgerStatus is a reading as the status shows it.
func ledgerStatus(r *reading) *v1alpha1.LedgerStatus {
	at := metav1.NewTime(r.at.Truncate(time.Second)) // the API knows no fractions
	l := r.report
	status := &v1alpha1.LedgerStatus{
		ObservedTime:            &at,
		Processed:               processed(l),
		EntriesConfirmed:        l.EntriesConfirmed,
		EntriesRecorded:         l.EntriesRecorded,
		ExitsMatchedConfirmed:   l.ExitsMatchedConfirmed,
		ExitsUnmatchedConfirmed: l.ExitsUnmatchedConfirmed,
		Matched:                 l.Matched,
		UnmatchedExpected:       l.UnmatchedExpected,
		UnmatchedUnexpected:     l.UnmatchedUnexpected,
		SummariesStored:         l.SummariesStored,
		DuplicatesSuppressed:    l.DuplicatesSuppressed,
		DeadLettered:            max(l.DeadLettered, r.depths.Dead),
		Indeterminate:           l.Indeterminate,
		Starved:                 l.Starved,
		StrangerEntries:         l.StrangerEntries,
		StrangerMatched:         l.StrangerMatched,
		EntryNotFound:           l.EntryNotFound,
	}
	if l.DataLostAt != nil {
		status.DataLostTime = new(metav1.NewTime(l.DataLostAt.Truncate(time.Second)))
	}
	if r.rest != nil {
		status.Lost = &r.rest.report.Lost
	}
	return status
}

// processed counts the events that took effect, whoever published them.
func processed(l ledger.Report) int64 {
	return generated(l) + l.StrangerEntries + l.StrangerMatched + l.EntryNotFound
}

// generated counts the events of the simulation's own generators that took effect. Of these alone it is
// known when they were due.
func generated(l ledger.Report) int64 {
	return l.EntriesRecorded + l.Matched + l.UnmatchedExpected + l.UnmatchedUnexpected
}
