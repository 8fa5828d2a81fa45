package ledger

import "time"

// Report is the account of a simulation: what its generators know to be published, what took effect,
// and the differences. Every number is counted where it happens or from the bits of the events; none is
// inferred from what it is compared with.
type Report struct {
	// EntriesConfirmed, ExitsMatchedConfirmed and ExitsUnmatchedConfirmed are the published events that
	// the broker has confirmed, exits by their generator's intent.
	EntriesConfirmed        int64 `json:"entriesConfirmed"`
	EntriesRecorded         int64 `json:"entriesRecorded"`
	ExitsMatchedConfirmed   int64 `json:"exitsMatchedConfirmed"`
	ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`
	// Matched, UnmatchedExpected and UnmatchedUnexpected are what became of the generated exits.
	Matched             int64 `json:"matched"`
	UnmatchedExpected   int64 `json:"unmatchedExpected"`
	UnmatchedUnexpected int64 `json:"unmatchedUnexpected"`
	// SummariesStored counts the summaries that the summary API has accepted, strangers' included.
	SummariesStored int64 `json:"summariesStored"`
	// DuplicatesSuppressed counts the deliveries of events that had taken effect before.
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`
	DeadLettered         int64 `json:"deadLettered"`
	// Indeterminate counts the events beyond a watermark that took effect: a generator died before it
	// could record that they were confirmed.
	Indeterminate int64 `json:"indeterminate"`
	// Lost counts the confirmed events that never took effect. It is 0 in a report that is not at rest.
	Lost int64 `json:"lost"`
	// Starved counts the draws of a matching exit that found no plate available.
	Starved int64 `json:"starved"`

	// AtRest says that nothing was under way when the ledger was read, as far as its reader could know.
	AtRest bool `json:"atRest"`
	// Outstanding counts, in a report that is not at rest, the confirmed events that have not taken effect
	// yet.
	Outstanding int64 `json:"outstanding"`
	// TakenTwice counts the effects in excess of the events that took effect.
	TakenTwice int64 `json:"takenTwice"`
	// Uncounted counts the events that took effect but are missing in the counters. It is 0 in a report
	// that is not at rest.
	Uncounted int64 `json:"uncounted"`
	// Outbox counts the summaries that wait for the summary API to accept them.
	Outbox int64 `json:"outbox"`

	// The share of each type and intent in Indeterminate, and in Lost or Outstanding. A negative share of
	// the missing means that events were processed with another intent than they were published with.
	IndeterminateEntries   int64 `json:"indeterminateEntries"`
	IndeterminateMatched   int64 `json:"indeterminateMatched"`
	IndeterminateUnmatched int64 `json:"indeterminateUnmatched"`
	MissingEntries         int64 `json:"missingEntries"`
	MissingMatched         int64 `json:"missingMatched"`
	MissingUnmatched       int64 `json:"missingUnmatched"`

	// StrangerEntries, StrangerMatched and EntryNotFound are what became of events that other programs
	// published. They are in none of the numbers above but SummariesStored and DuplicatesSuppressed.
	StrangerEntries int64 `json:"strangerEntries"`
	StrangerMatched int64 `json:"strangerMatched"`
	EntryNotFound   int64 `json:"entryNotFound"`

	// Runs counts the generator processes that ever published, ForgottenRuns those of them of whose events in
	// some partition the store has no record any more.
	Runs          int64 `json:"runs"`
	ForgottenRuns int64 `json:"forgottenRuns,omitempty"`
	// Partitions is with how many partitions the simulation was begun, as far as the store knows.
	Partitions int `json:"partitions,omitempty"`
	// DataLostAt is when a process noticed that data were gone from the store which had been durable. No
	// number above then tells of the whole simulation.
	DataLostAt *time.Time `json:"dataLostAt,omitempty"`
	// LostEvents holds the identifiers of the first lost events, in the order of runs.
	LostEvents []string `json:"lostEvents,omitempty"`
}

// Generated counts the events of the simulation's own generators that took effect. Only for these it is known
// when they were due.
func (r *Report) Generated() int64 {
	return r.EntriesRecorded + r.Matched + r.UnmatchedExpected + r.UnmatchedUnexpected
}

// Processed counts all events that took effect, those of external publishers included.
func (r *Report) Processed() int64 {
	return r.Generated() + r.StrangerEntries + r.StrangerMatched + r.EntryNotFound
}
