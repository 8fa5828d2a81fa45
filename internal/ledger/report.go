package ledger

import "time"

// Report is the result of an audit. It says what the generators published, what took effect, and how the two differ. A
// number comes either from a counter of the ledger or from its bitmaps, which have one bit for each event that took
// effect. The two sides of a comparison are always obtained independently.
type Report struct {
	// EntriesConfirmed, ExitsMatchedConfirmed and ExitsUnmatchedConfirmed count the published events that the broker
	// has confirmed. An exit counts as matched if its generator expected that the exit finds a visit.
	EntriesConfirmed        int64 `json:"entriesConfirmed"`
	EntriesRecorded         int64 `json:"entriesRecorded"`
	ExitsMatchedConfirmed   int64 `json:"exitsMatchedConfirmed"`
	ExitsUnmatchedConfirmed int64 `json:"exitsUnmatchedConfirmed"`
	// Matched, UnmatchedExpected and UnmatchedUnexpected count exits that generators published. Matched: the exit found
	// its visit. UnmatchedExpected: the exit found no visit, as the generator had expected. UnmatchedUnexpected: the
	// exit found no visit, although the generator had expected a visit.
	Matched             int64 `json:"matched"`
	UnmatchedExpected   int64 `json:"unmatchedExpected"`
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
	// Outstanding counts the confirmed events that have not taken effect yet. If AtRest is true, no event is in flight,
	// so these events count as Lost, and Outstanding is 0.
	Outstanding int64 `json:"outstanding"`
	// TakenTwice counts the effects of events that had already taken effect. For example, an event that takes effect
	// three times adds 2.
	TakenTwice int64 `json:"takenTwice"`
	// Uncounted counts the events that took effect, but are missing from the counters of the ledger. It is determined
	// only if no event is in flight. If AtRest is false, Uncounted is 0.
	Uncounted int64 `json:"uncounted"`
	// Outbox counts the summaries that the summary API has not accepted yet.
	Outbox int64 `json:"outbox"`

	// The fields IndeterminateEntries to IndeterminateUnmatched split Indeterminate into entries, exits that were
	// published as matched, and exits that were published as unmatched. The fields MissingEntries to MissingUnmatched
	// split Lost in the same way, or Outstanding if AtRest is false. MissingMatched can be negative if exits that were
	// published as unmatched were received as matched. MissingUnmatched can be negative in the opposite case.
	IndeterminateEntries   int64 `json:"indeterminateEntries"`
	IndeterminateMatched   int64 `json:"indeterminateMatched"`
	IndeterminateUnmatched int64 `json:"indeterminateUnmatched"`
	MissingEntries         int64 `json:"missingEntries"`
	MissingMatched         int64 `json:"missingMatched"`
	MissingUnmatched       int64 `json:"missingUnmatched"`

	// ExternalEntries, ExternalMatched and EntryNotFound count the events of external publishers: entries, exits that
	// found a visit, and exits that found no visit. SummariesStored, DuplicatesSuppressed, DeadLettered and Outbox
	// count the events of all publishers. The other fields above count only the events of the simulation's own
	// generators.
	ExternalEntries int64 `json:"externalEntries"`
	ExternalMatched int64 `json:"externalMatched"`
	EntryNotFound   int64 `json:"entryNotFound"`

	// Runs counts the generator processes with at least one record in the store. ForgottenRuns counts lost records
	// instead of processes. A process has one record per partition.
	Runs          int64 `json:"runs"`
	ForgottenRuns int64 `json:"forgottenRuns,omitempty"`
	// Partitions is the number of partitions with which the simulation was started, or 0 if the store does not contain
	// this number.
	Partitions int `json:"partitions,omitempty"`
	// DataLostAt is when a process noticed that the store had lost durable data. DataLostAt is nil if no process
	// noticed a loss. After a loss, the counts in this report are incomplete.
	DataLostAt *time.Time `json:"dataLostAt,omitempty"`
	// LostEvents contains the identifiers of the first lost events that the audit finds. The identifiers are grouped by
	// partition and generator process. Within a group, they are sorted by sequence number.
	LostEvents []string `json:"lostEvents,omitempty"`
}

// Generated returns the number of events that took effect and that the simulation's own generators published.
func (r *Report) Generated() int64 {
	return r.EntriesRecorded + r.Matched + r.UnmatchedExpected + r.UnmatchedUnexpected
}

// External returns the number of events of external publishers that took effect. An exit also takes effect if its last
// attempt finds no visit.
func (r *Report) External() int64 { return r.ExternalEntries + r.ExternalMatched + r.EntryNotFound }

// Processed returns the number of events that took effect, including those of external publishers.
func (r *Report) Processed() int64 { return r.Generated() + r.External() }
