package ledger

import "time"

// Report says what the generators published, what took effect, and how the two differ. The audit compares numbers from
// independent sources: counters, and bitmaps with one bit per event.
type Report struct {
	// EntriesConfirmed counts the published entries that the broker has confirmed.
	EntriesConfirmed int64 `json:"entriesConfirmed"`
	EntriesRecorded  int64 `json:"entriesRecorded"`
	// ExitsMatchedConfirmed counts the confirmed exits with the intent "matched": their generator expected that the
	// exit finds a visit of the same plate.
	ExitsMatchedConfirmed int64 `json:"exitsMatchedConfirmed"`
	// ExitsUnmatchedConfirmed counts the confirmed exits with the intent "unmatched": their generator expected that the
	// exit finds no visit of the same plate.
	ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`
	// Matched counts the generated exits that found their visit.
	Matched int64 `json:"matched"`
	// UnmatchedExpected counts the generated exits that found no visit and whose generator had expected none.
	UnmatchedExpected int64 `json:"unmatchedExpected"`
	// UnmatchedUnexpected counts the exits that found no visit, although their generator had expected a visit.
	UnmatchedUnexpected int64 `json:"unmatchedUnexpected"`
	// SummariesStored counts the summaries that the summary API has accepted, including those for exits of external
	// publishers.
	SummariesStored int64 `json:"summariesStored"`
	// DuplicatesSuppressed counts the deliveries of events that had already taken effect.
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`
	DeadLettered         int64 `json:"deadLettered"`
	// Indeterminate counts the events that took effect, but whose confirm is not recorded. For example, the generator
	// died before it recorded the confirm.
	Indeterminate int64 `json:"indeterminate"`
	// Lost counts the confirmed events that never took effect. If AtRest is false, these events count as Outstanding
	// instead, and Lost is 0.
	Lost int64 `json:"lost"`
	// Starved counts the exits that were due, but were not published because no plate was available.
	Starved int64 `json:"starved"`

	// AtRest means that the generators had stopped and no event was in flight when the ledger was read.
	AtRest bool `json:"atRest"`
	// Outstanding counts the confirmed events that have not taken effect yet. If AtRest is true, Outstanding is 0, and
	// Lost counts these events.
	Outstanding int64 `json:"outstanding"`
	// TakenTwice counts the effects of events that had already taken effect. For example, an event that takes effect
	// three times adds 2.
	TakenTwice int64 `json:"takenTwice"`
	// Uncounted counts the events that took effect, but are missing from the counters of the ledger. It is 0 if AtRest
	// is false.
	Uncounted int64 `json:"uncounted"`
	// Outbox counts the summaries that the summary API has not accepted yet.
	Outbox int64 `json:"outbox"`

	// IndeterminateEntries, IndeterminateMatched and IndeterminateUnmatched split Indeterminate by event type and, for
	// exits, by the published intent.
	IndeterminateEntries   int64 `json:"indeterminateEntries"`
	IndeterminateMatched   int64 `json:"indeterminateMatched"`
	IndeterminateUnmatched int64 `json:"indeterminateUnmatched"`
	// MissingEntries, MissingMatched and MissingUnmatched split Lost or, if AtRest is false, Outstanding by event type
	// and, for exits, by the published intent. A negative number means that exits were processed with another intent
	// than published.
	MissingEntries   int64 `json:"missingEntries"`
	MissingMatched   int64 `json:"missingMatched"`
	MissingUnmatched int64 `json:"missingUnmatched"`

	// SummariesStored, DuplicatesSuppressed, DeadLettered and Outbox include the events of external publishers.
	// ExternalEntries, ExternalMatched and EntryNotFound count only events of external publishers. All other fields
	// omit these events.

	// ExternalEntries counts the entries of external publishers.
	ExternalEntries int64 `json:"externalEntries"`
	// ExternalMatched counts the exits of external publishers that found a visit.
	ExternalMatched int64 `json:"externalMatched"`
	// EntryNotFound counts the exits of external publishers that found no visit.
	EntryNotFound int64 `json:"entryNotFound"`

	// Runs counts the generator processes with at least one record in the store. ForgottenRuns counts the records that
	// the store has lost. A process has one record per partition.
	Runs          int64 `json:"runs"`
	ForgottenRuns int64 `json:"forgottenRuns,omitempty"`
	// Partitions is the number of partitions with which the simulation was started, or 0 if the store does not contain
	// this number.
	Partitions int `json:"partitions,omitempty"`
	// DataLostAt is when a process noticed that the store had lost durable data, or nil. After a loss, the counts in
	// this report are incomplete.
	DataLostAt *time.Time `json:"dataLostAt,omitempty"`
	// LostEvents identifies the first lost events that the audit finds, grouped by partition and generator process, and
	// sorted by sequence number within a group.
	LostEvents []string `json:"lostEvents,omitempty"`
}

// Generated returns the number of events that took effect and that the simulation's own generators published.
func (r *Report) Generated() int64 {
	return r.EntriesRecorded + r.Matched + r.UnmatchedExpected + r.UnmatchedUnexpected
}

// External returns the number of events of external publishers that took effect. This includes exits that found no
// visit in their last attempt.
func (r *Report) External() int64 { return r.ExternalEntries + r.ExternalMatched + r.EntryNotFound }

// Processed returns the number of events that took effect, including those of external publishers.
func (r *Report) Processed() int64 { return r.Generated() + r.External() }
