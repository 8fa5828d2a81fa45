package ledger

import "time"

// Report is the result of an audit. It says what the generators published, what took effect, and the
// differences. Every number is counted where the event occurs, or derived from the bits of the events. No
// number is derived from another one that it is compared with.
type Report struct {
	// EntriesConfirmed, ExitsMatchedConfirmed and ExitsUnmatchedConfirmed count the published events that the
	// broker has confirmed. Exits are counted by the intent of their generator.
	EntriesConfirmed        int64 `json:"entriesConfirmed"`
	EntriesRecorded         int64 `json:"entriesRecorded"`
	ExitsMatchedConfirmed   int64 `json:"exitsMatchedConfirmed"`
	ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`
	// Matched, UnmatchedExpected and UnmatchedUnexpected count the generated exits by their outcome.
	Matched             int64 `json:"matched"`
	UnmatchedExpected   int64 `json:"unmatchedExpected"`
	UnmatchedUnexpected int64 `json:"unmatchedUnexpected"`
	// SummariesStored counts the summaries that the summary API has accepted, including those for exits of
	// external publishers.
	SummariesStored int64 `json:"summariesStored"`
	// DuplicatesSuppressed counts the deliveries of events that had already taken effect.
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`
	DeadLettered         int64 `json:"deadLettered"`
	// Indeterminate counts the events that took effect but whose confirm is not recorded, because their
	// generator died first.
	Indeterminate int64 `json:"indeterminate"`
	// Lost counts the confirmed events that never took effect. It is 0 if AtRest is false.
	Lost int64 `json:"lost"`
	// Starved counts the matched exits that were not published because no plate was available.
	Starved int64 `json:"starved"`

	// AtRest means that, as far as the reader of the ledger could know, no event was in flight.
	AtRest bool `json:"atRest"`
	// Outstanding counts the confirmed events that have not taken effect yet. It is 0 if AtRest is true.
	Outstanding int64 `json:"outstanding"`
	// TakenTwice counts the effects of events that had already taken effect.
	TakenTwice int64 `json:"takenTwice"`
	// Uncounted counts the events that took effect but are missing from the counters. It is 0 if AtRest is
	// false.
	Uncounted int64 `json:"uncounted"`
	// Outbox counts the summaries that the summary API has not accepted yet.
	Outbox int64 `json:"outbox"`

	// The following fields break down Indeterminate, and Lost or Outstanding, by type and intent. A negative
	// missing share means that events were processed with a different intent than they were published with.
	IndeterminateEntries   int64 `json:"indeterminateEntries"`
	IndeterminateMatched   int64 `json:"indeterminateMatched"`
	IndeterminateUnmatched int64 `json:"indeterminateUnmatched"`
	MissingEntries         int64 `json:"missingEntries"`
	MissingMatched         int64 `json:"missingMatched"`
	MissingUnmatched       int64 `json:"missingUnmatched"`

	// ExternalEntries, ExternalMatched and EntryNotFound count the events of external publishers by their
	// outcome. Of the numbers above, only SummariesStored and DuplicatesSuppressed include such events.
	ExternalEntries int64 `json:"externalEntries"`
	ExternalMatched int64 `json:"externalMatched"`
	EntryNotFound   int64 `json:"entryNotFound"`

	// Runs counts the generator processes that ever published. ForgottenRuns counts those whose record is
	// missing in the store in at least one partition.
	Runs          int64 `json:"runs"`
	ForgottenRuns int64 `json:"forgottenRuns,omitempty"`
	// Partitions is the number of partitions with which the simulation was started. It is 0 if the store does
	// not have it.
	Partitions int `json:"partitions,omitempty"`
	// DataLostAt is when a process noticed that the store had lost durable data. If it is set, the numbers
	// above do not cover the whole simulation.
	DataLostAt *time.Time `json:"dataLostAt,omitempty"`
	// LostEvents holds the identifiers of the first lost events, in the order of their runs.
	LostEvents []string `json:"lostEvents,omitempty"`
}

// Generated returns the number of events of the simulation's own generators that took effect. Only these events
// have a known due time.
func (r *Report) Generated() int64 {
	return r.EntriesRecorded + r.Matched + r.UnmatchedExpected + r.UnmatchedUnexpected
}

// External returns the number of events of external publishers that took effect.
func (r *Report) External() int64 { return r.ExternalEntries + r.ExternalMatched + r.EntryNotFound }

// Processed returns the number of all events that took effect.
func (r *Report) Processed() int64 { return r.Generated() + r.External() }
