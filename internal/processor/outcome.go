package processor

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Outcome is what one call of ProcessMessage came to. Every call has exactly one, so that the counts of
// the outcomes add up to the calls.
type Outcome uint8

// The outcomes, and the values of the metric label outcome that they stand for.
const (
	// outcomeNone is not an outcome: a handler that returns it is at fault.
	outcomeNone Outcome = iota
	// OutcomeRecorded: the entry's visit was created.
	OutcomeRecorded
	// OutcomeMatched: the exit ended a visit and its summary was accepted. When the summary was accepted
	// only in a later call, that one counts as matched and those before it as failed.
	OutcomeMatched
	// OutcomeUnmatchedExpected: an exit meant to find no visit found none.
	OutcomeUnmatchedExpected
	// OutcomeUnmatchedUnexpected: an exit meant to be matched met no visit in its last attempt.
	OutcomeUnmatchedUnexpected
	// OutcomeEntryNotFound: a stranger's exit met no visit in its last attempt.
	OutcomeEntryNotFound
	// OutcomeEarly: the exit met no visit yet and will be tried again later.
	OutcomeEarly
	// OutcomeDuplicate: the event took effect before; nothing was changed.
	OutcomeDuplicate
	// OutcomeFailed: the call returned an error, whether the message is tried again or dead-lettered.
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

// Outcomes lists the outcomes that events of a type can have, in the order in which they are shown to
// people.
func Outcomes(t event.Type) []Outcome {
	if t == event.TypeEntry {
		return []Outcome{OutcomeRecorded, OutcomeDuplicate, OutcomeFailed}
	}
	return []Outcome{
		OutcomeMatched, OutcomeUnmatchedExpected, OutcomeUnmatchedUnexpected, OutcomeEntryNotFound,
		OutcomeEarly, OutcomeDuplicate, OutcomeFailed,
	}
}

// isEffect reports whether the outcome is the first effect of an event, from which its end-to-end latency
// is known.
func (o Outcome) isEffect() bool {
	switch o {
	case OutcomeRecorded, OutcomeMatched, OutcomeUnmatchedExpected, OutcomeUnmatchedUnexpected, OutcomeEntryNotFound:
		return true
	}
	return false
}

// outcomeOf translates those results of the store's steps that leave nothing to do.
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
