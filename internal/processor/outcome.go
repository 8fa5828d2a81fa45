package processor

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Outcome is the result of one call of ProcessMessage. Every call has exactly one outcome, so the counts of
// the outcomes add up to the number of calls.
type Outcome uint8

// The outcomes. Their strings are the values of the metric label "outcome".
const (
	// outcomeNone is the zero value. A handler returns it only together with an error.
	outcomeNone Outcome = iota
	// OutcomeRecorded means that an entry was recorded as a parked vehicle.
	OutcomeRecorded
	// OutcomeMatched means that an exit ended a visit and that the summary API accepted its summary.
	OutcomeMatched
	// OutcomeUnmatchedExpected means that an exit found no visit, as its generator intended.
	OutcomeUnmatchedExpected
	// OutcomeUnmatchedUnexpected means that the last attempt to process a generated exit found no visit, although the
	// exit should have ended one.
	OutcomeUnmatchedUnexpected
	// OutcomeEntryNotFound means that the last attempt to process an exit of an external publisher found no visit.
	OutcomeEntryNotFound
	// OutcomeEarly means that no parked vehicle has the plate of the exit yet. The processor retries the exit.
	OutcomeEarly
	// OutcomeDuplicate means that the event had already taken effect. A concurrent delivery that loses the race to
	// settle a summary is a duplicate, too.
	OutcomeDuplicate
	// OutcomeFailed means that the call of ProcessMessage returned an error, transient or permanent. If the call
	// panics or returns an invalid result, that counts as an error.
	OutcomeFailed

	outcomes
)

// String returns the value of the metric label "outcome".
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

// Outcomes returns the outcomes that events of a type can have, in display order.
func Outcomes(t event.Type) []Outcome {
	if t == event.TypeEntry {
		return []Outcome{OutcomeRecorded, OutcomeDuplicate, OutcomeFailed}
	}
	return []Outcome{
		OutcomeMatched, OutcomeUnmatchedExpected, OutcomeUnmatchedUnexpected, OutcomeEntryNotFound,
		OutcomeEarly, OutcomeDuplicate, OutcomeFailed,
	}
}

// isEffect reports whether the outcome means that the event took effect.
func (o Outcome) isEffect() bool {
	switch o {
	case OutcomeRecorded, OutcomeMatched, OutcomeUnmatchedExpected, OutcomeUnmatchedUnexpected, OutcomeEntryNotFound:
		return true
	}
	return false
}

// outcomeOf maps a result of the store to an outcome. It returns outcomeNone for a result that needs further work,
// such as posting a summary.
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
