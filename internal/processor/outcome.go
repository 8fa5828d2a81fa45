package processor

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Outcome is the result of one call of ProcessMessage. Every call has exactly one outcome, so the counts of
// the outcomes add up to the number of calls.
type Outcome uint8

// The outcomes. String returns their values of the metric label outcome.
const (
	// outcomeNone is the zero value. A handler must not return it without an error.
	outcomeNone Outcome = iota
	// OutcomeRecorded means that the visit of the entry was created.
	OutcomeRecorded
	// OutcomeMatched means that the exit ended a visit and its summary was accepted. If the summary was only
	// accepted in a later call, that call counts as matched and the earlier ones as failed.
	OutcomeMatched
	// OutcomeUnmatchedExpected means that an exit with the intent unmatched found no visit.
	OutcomeUnmatchedExpected
	// OutcomeUnmatchedUnexpected means that an exit with the intent matched found no visit in its last
	// attempt.
	OutcomeUnmatchedUnexpected
	// OutcomeEntryNotFound means that an external exit found no visit in its last attempt.
	OutcomeEntryNotFound
	// OutcomeEarly means that the exit found no visit yet and will be retried.
	OutcomeEarly
	// OutcomeDuplicate means that the event had taken effect before. Nothing was changed. If the summary of an exit is
	// pending, the delivery that removes it from the outbox counts as matched, the others as duplicates.
	OutcomeDuplicate
	// OutcomeFailed means that the call returned an error, transient or permanent.
	OutcomeFailed

	outcomes
)

// String returns the value of the metric label outcome.
func (o Outcome) String() string {
	switch o {
	case OutcomeRecorded:
		return "recorded"
	case OutcomeMatched:
		return "matched"
	case OutcomeUnmatchedExpected:
		return "unmatched_expected"
	case OutcomeUnmatchedUnexpected:
		return "unmatched_unexpected"
	case OutcomeEntryNotFound:
		return "entry_not_found"
	case OutcomeEarly:
		return "early"
	case OutcomeDuplicate:
		return "duplicate"
	case OutcomeFailed:
		return "failed"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Outcomes returns the outcomes that events of a type can have, in the order in which people see them.
func Outcomes(t event.Type) []Outcome {
	if t == event.TypeEntry {
		return []Outcome{OutcomeRecorded, OutcomeDuplicate, OutcomeFailed}
	}
	return []Outcome{
		OutcomeMatched, OutcomeUnmatchedExpected, OutcomeUnmatchedUnexpected, OutcomeEntryNotFound,
		OutcomeEarly, OutcomeDuplicate, OutcomeFailed,
	}
}

// isEffect reports whether the outcome is the effect of an event. Its end-to-end latency ends there.
func (o Outcome) isEffect() bool {
	switch o {
	case OutcomeRecorded, OutcomeMatched, OutcomeUnmatchedExpected, OutcomeUnmatchedUnexpected, OutcomeEntryNotFound:
		return true
	}
	return false
}

// outcomeOf returns the outcome of a result that needs no further work, and outcomeNone for all others.
func outcomeOf(r store.Result) Outcome {
	switch r {
	case store.ResultRecorded:
		return OutcomeRecorded
	case store.ResultUnmatchedExpected:
		return OutcomeUnmatchedExpected
	case store.ResultUnmatchedUnexpected:
		return OutcomeUnmatchedUnexpected
	case store.ResultEntryNotFound:
		return OutcomeEntryNotFound
	case store.ResultEarly:
		return OutcomeEarly
	case store.ResultDuplicate:
		return OutcomeDuplicate
	}
	return outcomeNone
}
