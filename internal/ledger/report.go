package ledger

import "time"

// Report is the result of an audit. It says what the generators published, what took effect, and how the two differ.
// Every number comes either from a counter of the ledger, or from the bitmaps of the ledger, which have one bit for
// each event that took effect. Numbers that are compared with each other are always obtained independently.
type Report struct {
	// EntriesConfirmed, ExitsMatchedConfirmed and ExitsUnmatchedConfirmed count the published events that the
	// broker has confirmed. An exit counts as matched if its generator expected it to find a visit.
	EntriesConfirmed        int64 `json:"entriesConfirmed"`
	EntriesRecorded         int64 `json:"entriesRecorded"`
	ExitsMatchedConfirmed   int64 `json:"exitsMatchedConfirmed"`
	ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`
	// Matched, UnmatchedExpected and UnmatchedUnexpected count exits that generators published. Matched: the exit found
	// its visit. UnmatchedExpected: it found no visit, and the generator had expected none. UnmatchedUnexpected: it
	// found no visit, although the generator had expected one.
	Matched             int64 `json:"matched"`
	UnmatchedExpected   int64 `json:"unmatchedExpected"`
	UnmatchedUnexpected int64 `json:"unmatchedUnexpected"`
	// SummariesStored counts the summaries that the summary API has accepted. It includes the summaries for
	// exits of external publishers.
	SummariesStored int64 `json:"summariesStored"`
	// DuplicatesSuppressed counts the deliveries of events that had already taken effect.
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`
	DeadLettered         int64 `json:"deadLettered"`
	// Indeterminate counts the events that took effect, but whose confirm is not recorded, because their
	// generator died before it could record the confirm.
	Indeterminate int64 `json:"indeterminate"`
	// Lost counts the confirmed events that never took effect. It is 0 if AtRest is false.
	Lost int64 `json:"lost"`
	// Starved counts the matched exits that were due but not published, because no plate was available.
	Starved int64 `json:"starved"`

	// AtRest is Options.AtRest: whether the caller of the audit knew that no event was in flight.
	AtRest bool `json:"atRest"`
	// Outstanding counts the confirmed events that have not taken effect yet. It is 0 if AtRest is true.
	Outstanding int64 `json:"outstanding"`
	// TakenTwice counts how often an event that had already taken effect took effect again.
	TakenTwice int64 `json:"takenTwice"`
	// Uncounted counts the events that took effect, but that the counters of the ledger do not include. It is 0
	// if AtRest is false.
	Uncounted int64 `json:"uncounted"`
	// Outbox counts the summaries that the summary API has not accepted yet.
	Outbox int64 `json:"outbox"`

	// The fields IndeterminateEntries to IndeterminateUnmatched split Indeterminate by type and intent. The
	// fields MissingEntries to MissingUnmatched split Lost in the same way, or Outstanding if AtRest is false.
	// MissingMatched or MissingUnmatched can be negative if the processor received exits with an intent other than
	// the one that the generator published.
	IndeterminateEntries   int64 `json:"indeterminateEntries"`
	IndeterminateMatched   int64 `json:"indeterminateMatched"`
	IndeterminateUnmatched int64 `json:"indeterminateUnmatched"`
	MissingEntries         int64 `json:"missingEntries"`
	MissingMatched         int64 `json:"missingMatched"`
	MissingUnmatched       int64 `json:"missingUnmatched"`

	// ExternalEntries, ExternalMatched and EntryNotFound count the events of external publishers: entries,
	// exits that found a visit, and exits that found none. Of the numbers above, only SummariesStored and
	// DuplicatesSuppressed include events of external publishers.
	ExternalEntries int64 `json:"externalEntries"`
	ExternalMatched int64 `json:"externalMatched"`
	EntryNotFound   int64 `json:"entryNotFound"`

	// Runs counts the generator processes that have published events. ForgottenRuns counts those of them whose
	// record is missing from the store in at least one partition.
	Runs          int64 `json:"runs"`
	ForgottenRuns int64 `json:"forgottenRuns,omitempty"`
	// Partitions is the number of partitions with which the simulation was started. It is 0 if the store does
	// not know the number.
	Partitions int `json:"partitions,omitempty"`
	// DataLostAt is when a process noticed that the store had lost durable data. It is nil if no process has.
	// If it is set, the counts in this report are incomplete.
	DataLostAt *time.Time `json:"dataLostAt,omitempty"`
	// LostEvents contains the identifiers of the first lost events that the audit finds. They are grouped by partition
	// and generator process, and sorted by sequence number within each group.
	LostEvents []string `json:"lostEvents,omitempty"`
}

// Generated returns the number of events that took effect and that the simulation's own generators published.
// Only for these events is it known when they were due.
func (r *Report) Generated() int64 {
	return r.EntriesRecorded + r.Matched + r.UnmatchedExpected + r.UnmatchedUnexpected
}

// External returns the number of events that took effect and that external publishers published.
func (r *Report) External() int64 { return r.ExternalEntries + r.ExternalMatched + r.EntryNotFound }

// Processed returns the number of events that took effect, including those of external publishers.
func (r *Report) Processed() int64 { return r.Generated() + r.External() }
