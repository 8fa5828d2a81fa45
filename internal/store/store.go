// Package store defines the state of a simulation: the steps of generators and processors, their results, and the
// queries of an audit. Package redis implements it on Redis or Valkey, and package memory inside one process. Both
// pass the conformance suite of package storetest.
//
// Every step is atomic and idempotent. A caller may repeat a step with the same arguments, because an answer was lost
// or a message was redelivered: the step changes nothing, and its answer lets the caller continue.
// docs/ledger.md explains why every effect therefore happens exactly once.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Errors of a store. Callers distinguish them with errors.Is.
var (
	// ErrRolledBack means that the server has restarted, or may have restarted, since the mark was taken. Effects
	// since then may be lost: the caller repeats every step since then. WaitDurable returns it.
	ErrRolledBack = errors.New("the store restarted and may have lost its latest effects; repeat the step")
	// ErrUnavailable wraps every failure to reach the store. The step may or may not have taken effect. The store
	// logs the start and the end of an outage itself.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrOtherPartitions means that the simulation started with another number of partitions, so that its events are
	// in other partitions than expected. Mark returns it.
	ErrOtherPartitions = errors.New("the simulation started with another number of partitions")
)

// MaxOutstanding is the maximum number of sequence numbers that a generator may use beyond its durable watermark in one
// partition. An audit looks no further past a watermark.
const MaxOutstanding = 1 << 16

// Counter names a sequence of positions that the generators of a simulation share.
type Counter string

// The counters. A position determines the plate of an entry, or the draw and the unmatched plate of an exit.
const (
	CounterEntries Counter = "entries"
	CounterExits   Counter = "exits"
)

// Origin identifies an event. A generated event has Run and Seq, and the store remembers with one bit that it took
// effect. An external event has no Run, and the store remembers its ID for ExternalIDTTL.
type Origin struct {
	ID        string
	Run       string
	Partition int
	Seq       int64
}

// Generated reports whether a generator of this project published the event.
func (o Origin) Generated() bool { return o.Run != "" }

const (
	// ExternalIDTTL is the time for which the store remembers the identifier of an external event.
	ExternalIDTTL = 24 * time.Hour
	// DeadLetterTTL is the time for which the store remembers the key of a dead letter.
	DeadLetterTTL = 7 * 24 * time.Hour
)

// Published is one event that the broker has confirmed.
type Published struct {
	Plate string
	At    time.Time
	// Intent is IntentNone for an entry.
	Intent event.Intent
}

// Confirmation advances a run's watermark over a contiguous range of confirmed events.
type Confirmation struct {
	Run       string
	Type      event.Type
	Partition int
	// From is the sequence number of Events[0]. The others follow without gaps. A confirmation without Events
	// registers the run.
	From   int64
	Events []Published
	// MaxStay is the time for which a plate stays in the pool of available plates.
	MaxStay time.Duration
}

const (
	// MaxClaim is the maximum number of plates of one claim, whatever its Limit.
	MaxClaim = 1024
	// ClaimsRemembered is the number of latest claims of one (Run, Partition) that can be repeated or released.
	ClaimsRemembered = 64
)

// Claim asks for plates that have been available for long enough.
type Claim struct {
	Run       string
	Partition int
	// Token identifies the claim in (Run, Partition). A claim that is repeated with its token returns the same plates
	// as the first time, or none if it was released. The store does not remember a claim that returned no plates.
	Token int64
	// Limit is the maximum number of plates to claim.
	Limit int
	// Now, MinStay and MaxStay select the plates whose entry is at least MinStay and less than MaxStay old.
	Now     time.Time
	MinStay time.Duration
	MaxStay time.Duration
}

// Plate is a plate in the pool with the instant of its entry, truncated to milliseconds.
type Plate struct {
	Plate   string
	EntryAt time.Time
}

const (
	// VisitMargin is the time by which an unclaimed visit outlives MaxStay, so that a plate leaves the pool before
	// its visit expires.
	VisitMargin = time.Minute
	// ClaimedStay is the time by which a claimed visit outlives MaxStay, so that it outlives the time that its exit
	// waits in a queue.
	ClaimedStay = 24 * time.Hour
)

// Generators are the steps of generators.
type Generators interface {
	// Lease reserves n positions of a counter and returns the first. Once the lease is durable, no other lease
	// contains its positions. The positions of a lease whose answer was lost stay unused.
	Lease(ctx context.Context, counter Counter, n int) (first int64, err error)
	// Confirm advances the watermark of (Run, Partition). In the same step, it adds the plates of newly confirmed
	// entries to the pool. It skips events below the stored watermark. It returns the new watermark. A watermark
	// below From means that the store has lost earlier confirmations and that Confirm has changed nothing: the
	// caller confirms again from that watermark.
	Confirm(ctx context.Context, c Confirmation) (next int64, err error)
	// Claim removes up to Limit plates from the pool, those available longest first, and extends their visits so
	// that they exist until their exits are processed.
	Claim(ctx context.Context, c Claim) ([]Plate, error)
	// Release returns those plates of a claim to the pool whose exits were not published. It skips plates that are
	// not in the claim. A repeated release changes nothing. Call it after all other plates of the claim are used.
	Release(ctx context.Context, c Claim, plates []Plate) error
	// PoolSize counts the plates in the pools of all partitions.
	PoolSize(ctx context.Context) (int64, error)
	Durability
}

// EntryStep records an entry.
type EntryStep struct {
	Origin Origin
	// Partition is the plate's.
	Partition int
	Plate     string
	At        time.Time
	// MaxStay is the lifetime of an unclaimed visit, to which the store adds VisitMargin.
	MaxStay time.Duration
}

// ExitStep matches an exit with its entry.
type ExitStep struct {
	Origin    Origin
	Partition int
	Plate     string
	At        time.Time
	// Intent is the intent of a generated exit. Without one, the intent is taken to be matched. The store ignores the
	// intent of an external exit.
	Intent event.Intent
	// LastAttempt makes the result of an exit without a visit final. Otherwise it is ResultEarly.
	LastAttempt bool
}

// Result is the result of a step.
type Result string

// The results. A step with a final result took effect.
const (
	// ResultRecorded: the entry's visit was created. Final.
	ResultRecorded Result = "recorded"
	// ResultMatched: the exit ended a visit, and its summary is in the outbox. Final.
	ResultMatched Result = "matched"
	// ResultUnmatchedExpected: a generated exit with the intent unmatched. Final.
	ResultUnmatchedExpected Result = "unmatched_expected"
	// ResultUnmatchedUnexpected: an exit with the intent matched found no visit in its last attempt. Final.
	ResultUnmatchedUnexpected Result = "unmatched_unexpected"
	// ResultEntryNotFound: an external exit found no visit in its last attempt. Final.
	ResultEntryNotFound Result = "entry_not_found"
	// ResultPending: the exit was matched before, and its summary is still in the outbox.
	ResultPending Result = "pending"
	// ResultEarly: the exit found no visit yet. The step changed nothing.
	ResultEarly Result = "early"
	// ResultPrecedesEntry: the exit is dated before the entry of its visit. The step changed nothing.
	ResultPrecedesEntry Result = "precedes_entry"
	// ResultDuplicate: the event took effect before. The step only counted a duplicate.
	ResultDuplicate Result = "duplicate"
	// ResultSettled: the summary was removed from the outbox and counted as stored.
	ResultSettled Result = "settled"
)

// ExitResult is the result of an exit step. Summary is set if Result is ResultMatched or ResultPending.
type ExitResult struct {
	Result  Result
	Summary event.Summary
}

// Processors are the steps of processors.
type Processors interface {
	// RecordEntry creates the visit of a plate. If the plate has a visit, this entry replaces its entry.
	RecordEntry(ctx context.Context, s EntryStep) (Result, error)
	// RecordExit ends the visit of a plate and puts its summary into the outbox.
	RecordExit(ctx context.Context, s ExitStep) (ExitResult, error)
	// SettleSummary removes the summary of the exit event with this ID from the outbox of the partition and counts
	// it as stored: ResultSettled. If it is not there, another delivery of the same exit has settled it, and
	// SettleSummary counts a duplicate: ResultDuplicate. Call it after the summary API has accepted the summary.
	SettleSummary(ctx context.Context, partition int, exitID string) (Result, error)
	// RecordDeadLetter counts a dead letter once per key.
	RecordDeadLetter(ctx context.Context, partition int, key string) error
	Durability
}

// Mark identifies the server process. A caller takes it before a step.
type Mark struct {
	// Epoch identifies the server process that the store observed last.
	Epoch string
}

// Durability reports when effects survive a crash of the server process.
type Durability interface {
	// Mark returns the latest observation of the server of the partition. Only the first call does I/O. The first mark
	// of a simulation records its number of partitions.
	Mark(ctx context.Context, partition int) (Mark, error)
	// WaitDurable waits until every effect in the partition that was answered before the call survives a crash of the
	// server process. It returns ErrRolledBack if the server is no longer the process of the mark. Concurrent calls
	// share observations.
	WaitDurable(ctx context.Context, partition int, mark Mark) error
}

// Counts are the counters of the ledger. A step changes them together with its effect.
type Counts struct {
	EntriesRecorded     int64
	Matched             int64
	UnmatchedExpected   int64
	UnmatchedUnexpected int64
	SummariesStored     int64
	// DuplicatesSuppressed counts the deliveries of events that had taken effect before.
	DuplicatesSuppressed int64
	DeadLettered         int64
	Starved              int64
	// ExternalEntries, ExternalMatched and EntryNotFound count the external events by their result. The fields above
	// do not include them, except SummariesStored and DuplicatesSuppressed.
	ExternalEntries int64
	ExternalMatched int64
	EntryNotFound   int64
}

// Dataset describes the simulation's data as a whole.
type Dataset struct {
	// Partitions is the number of partitions with which the simulation started, 0 if the store has no data of it.
	Partitions int
	// LostAt is the time at which a process noticed that durable data were lost, zero if none were.
	LostAt time.Time
}

// Run describes one run in one partition.
type Run struct {
	Run       string
	Type      event.Type
	Partition int
	// Confirmed is the watermark: the broker has confirmed every sequence number below it. Matched and Unmatched are
	// the numbers of these events with each intent.
	Confirmed int64
	Matched   int64
	Unmatched int64
}

// ChunkBits is the number of sequence numbers in one chunk of a run's bitmaps.
const ChunkBits = 1 << 16

// Chunk holds one bit for each of ChunkBits consecutive sequence numbers of a run in a partition, most significant bit
// first as in Redis. Missing trailing bytes are zero.
type Chunk struct {
	// Seen has a bit for each event that took effect.
	Seen []byte
	// Matched has a bit for each of these with the intent matched.
	Matched []byte
}

// Ledger are the queries of an audit.
type Ledger interface {
	// Counts sums the ledger over all partitions.
	Counts(ctx context.Context) (Counts, error)
	// Runs lists every registered run of every partition.
	Runs(ctx context.Context) ([]Run, error)
	// Chunk reads one chunk of a run's bitmaps: the sequence numbers from index×ChunkBits on. A chunk without any bit
	// is empty.
	Chunk(ctx context.Context, r Run, index int64) (Chunk, error)
	// Outbox counts the summaries, in all partitions, that the summary API has not accepted yet.
	Outbox(ctx context.Context) (int64, error)
	// Dataset describes the data. It works with any number of partitions.
	Dataset(ctx context.Context) (Dataset, error)
}

// Timeline keeps what happens second by second. Package timeline says how rows are merged as they grow old.
type Timeline interface {
	// AppendTimeline adds rows of one process, in ascending order of time. It may be repeated with the same
	// rows, and returns nil only once they survive a crash of the store's server.
	AppendTimeline(ctx context.Context, process string, rows []timeline.Row) error
	// CompactTimeline merges rows that are old enough at the given time.
	CompactTimeline(ctx context.Context, now time.Time) error
	// ReadTimeline returns the measurements in [from, to), merged over all processes, in the order of time.
	// Rows that lie partly inside the interval are included.
	ReadTimeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
}

// Store is a complete implementation.
type Store interface {
	Timeline
	Generators
	Processors
	Ledger
	// CountStarved sets a run's number of starved draws: matched draws that found the pool empty. total is the number
	// so far, not a difference, so that a repeated call changes nothing.
	CountStarved(ctx context.Context, run string, total int64) error
	// Ping reports whether the store answers.
	Ping(ctx context.Context) error
	// Version returns the name of the server and its version, such as "Redis 7.4.1". Without a server it returns
	// "in memory".
	Version(ctx context.Context) (string, error)
	// Purge removes everything of the simulation from the store.
	Purge(ctx context.Context) error
	Close() error
}
