// Package store defines the interfaces to the state of a simulation: the steps of generators and processors, the
// results of steps, and the queries of an audit. Package redis implements these interfaces on Redis or Valkey, and
// package memory implements them within one process. Both pass the conformance suite in package storetest.
//
// Every step is atomic and idempotent. A caller may repeat a step with the same arguments, for example because a
// reply was lost or a message was redelivered. The repeated step changes nothing, and its result lets the caller
// continue. docs/ledger.md explains why every effect therefore happens exactly once.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Errors of a store. Use errors.Is to distinguish them.
var (
	// ErrRolledBack means that the server has restarted or failed over, or may have done so, since the mark was read.
	// Effects since then may be lost, so the caller must repeat all steps since then. WaitDurable returns this error.
	ErrRolledBack = errors.New("the store restarted and may have lost its latest effects; repeat the step")
	// ErrUnavailable means that the store could not be reached. The step may or may not have taken effect. The
	// store itself logs the beginning and the end of an outage.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrNotReady means that the store was reached with valid credentials, but cannot serve at the moment. It also means
	// that this process has too many open files to connect, or that DNS does not work. Errors that match it also
	// match ErrUnavailable.
	ErrNotReady = errors.New("the server is not ready")
	// ErrOtherPartitions means that the number of partitions with which the simulation started differs from that of this
	// process. So this process would look for events in the wrong partitions. Mark returns this error.
	ErrOtherPartitions = errors.New("the number of partitions has changed since the simulation started")
	// ErrOtherOwner means that the data is marked as belonging to another simulation of the same name. Mark, Dataset
	// and Purge return this error.
	ErrOtherOwner = errors.New("the data belongs to another simulation of the same name")
)

// MaxOutstanding is the maximum number of sequence numbers that a generator may use beyond its durable watermark in
// one partition. An audit examines at most this many events past a watermark.
const MaxOutstanding = 1 << 16

// Counter identifies a sequence of positions that all generators of a simulation share.
type Counter string

// The counters of entries and exits. The position of an entry determines its plate. The position of an exit determines
// whether the exit is matched. If the exit is unmatched, the position also determines its plate.
const (
	CounterEntries Counter = "entries"
	CounterExits   Counter = "exits"
)

// Origin identifies an event. A generated event has Run and Seq. The store needs a single bit to remember that a
// generated event took effect. An external event has no Run. The partition of its plate remembers its ID for
// ExternalIDTTL. Other partitions do not recognize the ID.
type Origin struct {
	ID        string
	Run       string
	Partition int
	Seq       int64
}

// Generated reports whether one of our own generators published the event.
func (o Origin) Generated() bool { return o.Run != "" }

const (
	// ExternalIDTTL is how long a partition remembers the identifier of an external event.
	ExternalIDTTL = 24 * time.Hour
	// DeadLetterTTL is how long the store remembers the key of a dead letter. In this time, the dead letter is counted
	// only once, even if its message is delivered again.
	DeadLetterTTL = 7 * 24 * time.Hour
)

// Published is an event whose publication the broker has confirmed.
type Published struct {
	Plate string
	At    time.Time
	// Intent is the intent of an exit, and IntentNone for an entry.
	Intent event.Intent
}

// Confirmation advances the watermark of a generator run past a contiguous range of confirmed events.
type Confirmation struct {
	Run       string
	Type      event.Type
	Partition int
	// From is the sequence number of Events[0]. The events have consecutive sequence numbers. A confirmation
	// without events only registers the generator run.
	From   int64
	Events []Published
	// MaxStay is how long a plate stays in the pool of available plates.
	MaxStay time.Duration
}

// Newest returns the time of the latest of the events. There must be at least one.
func (c Confirmation) Newest() time.Time {
	at := c.Events[0].At
	for _, e := range c.Events[1:] {
		if e.At.After(at) {
			at = e.At
		}
	}
	return at
}

const (
	// MaxClaim is the maximum number of plates of one claim, even if Claim.Limit is larger. The maximum limits how long
	// a claim blocks other steps.
	MaxClaim = 1024
	// ClaimsRemembered is how many claims the store remembers for each generator run and partition. Only these
	// claims can be repeated or released. Older claims are evicted.
	ClaimsRemembered = 64
)

// Claim requests plates of vehicles that have been parked for some time.
type Claim struct {
	Run       string
	Partition int
	// Token identifies the claim within its generator run and partition. Repeating a claim with the same token
	// returns the same plates as the first time, or none if the claim was released. The store does not remember a
	// claim that returned no plates.
	Token int64
	// Limit is the maximum number of plates to claim.
	Limit int
	// Now, MinStay and MaxStay select the plates. The entry of each plate is at least MinStay and less than MaxStay
	// before Now.
	Now     time.Time
	MinStay time.Duration
	MaxStay time.Duration
}

// Plate is a plate in the pool. EntryAt is its entry time, truncated to milliseconds.
type Plate struct {
	Plate   string
	EntryAt time.Time
}

const (
	// VisitMargin is added to MaxStay to get the lifetime of an unclaimed visit. A plate therefore leaves the pool
	// before its visit expires.
	VisitMargin = time.Minute
	// ClaimedStay is added to MaxStay to get the lifetime of a claimed visit. The visit therefore still exists if
	// its exit has waited in a queue for a long time.
	ClaimedStay = 24 * time.Hour
)

// Generators contains the steps of generators.
type Generators interface {
	// Lease reserves n consecutive positions of a counter and returns the first of them. Once the lease is durable,
	// no other lease contains these positions. If the reply is lost, the positions stay unused.
	Lease(ctx context.Context, counter Counter, n int) (first int64, err error)
	// Confirm advances the watermark of a generator run in one partition and returns the new watermark. In the same
	// step, it adds the plates of newly confirmed entries to the pool. It skips events below the stored watermark.
	// If the returned watermark is below From, the store has lost earlier confirmations and Confirm has changed
	// nothing. The caller must then confirm again from that watermark.
	Confirm(ctx context.Context, c Confirmation) (next int64, err error)
	// Claim removes up to Limit plates from the pool, earliest entries first. It extends the lifetime of their
	// visits, so that the visits still exist when the exits are processed.
	Claim(ctx context.Context, c Claim) ([]Plate, error)
	// Release returns the unused plates of a claim to the pool. A plate is unused if no exit was published for it.
	// Release skips plates that are not in the claim. Only the first call for a claim has an effect.
	// So call it once, for all unused plates, when no more exits will be published for plates of the claim.
	Release(ctx context.Context, c Claim, plates []Plate) error
	// PoolSize returns the number of plates in the pools of all partitions.
	PoolSize(ctx context.Context) (int64, error)
	Durability
}

// EntryStep is the argument of RecordEntry: an entry to record.
type EntryStep struct {
	Origin    Origin
	Partition int
	Plate     string
	At        time.Time
	// MaxStay is the longest time between an entry and its exit. The store deletes a visit without an exit after MaxStay
	// plus VisitMargin.
	MaxStay time.Duration
}

// ExitStep is the argument of RecordExit: an exit to match with its entry.
type ExitStep struct {
	Origin    Origin
	Partition int
	Plate     string
	At        time.Time
	// Intent is the intent of a generated exit. If it is missing, the intent "matched" applies. The store ignores
	// the intent of an external exit.
	Intent event.Intent
	// LastAttempt makes the result final if the exit finds no visit. If LastAttempt is false, the result is
	// ResultEarly in this case.
	LastAttempt bool
}

// Result says what a step of a processor did.
type Result string

// The results of steps. A result is final if the event has taken effect. If the step is repeated after a final result,
// the store returns ResultPending or ResultDuplicate.
const (
	// ResultRecorded means that the visit of the entry was created. This result is final.
	ResultRecorded Result = "recorded"
	// ResultMatched means that the exit ended a visit and that the summary is in the outbox. This result is final.
	ResultMatched Result = "matched"
	// ResultUnmatchedExpected means that a generated exit with the intent "unmatched" was recorded. This result is
	// final.
	ResultUnmatchedExpected Result = "unmatched_expected"
	// ResultUnmatchedUnexpected means that the last attempt to process an exit found no visit, although the generator
	// published the exit with the intent "matched". This result is final.
	ResultUnmatchedUnexpected Result = "unmatched_unexpected"
	// ResultEntryNotFound means that the last attempt to process an exit of an external publisher found no visit. This
	// result is final.
	ResultEntryNotFound Result = "entry_not_found"
	// ResultPending means that the exit was matched before and that its summary is still in the outbox.
	ResultPending Result = "pending"
	// ResultEarly means that the exit found no visit yet. The step changed nothing.
	ResultEarly Result = "early"
	// ResultPrecedesEntry means that the exit is dated before the entry of its visit. The step changed nothing.
	ResultPrecedesEntry Result = "precedes_entry"
	// ResultDuplicate means that the event has already taken effect. The step only counted a duplicate.
	ResultDuplicate Result = "duplicate"
	// ResultSettled means that the summary was removed from the outbox and counted as stored.
	ResultSettled Result = "settled"
)

// ExitResult is the result of an exit step. Summary is set only if Result is ResultMatched or ResultPending.
type ExitResult struct {
	Result  Result
	Summary event.Summary
}

// Processors contains the steps of processors.
type Processors interface {
	// RecordEntry creates the visit of a plate. If the plate already has a visit, the new entry replaces the old
	// one.
	RecordEntry(ctx context.Context, s EntryStep) (Result, error)
	// RecordExit ends the visit of a plate and puts its summary into the outbox.
	RecordExit(ctx context.Context, s ExitStep) (ExitResult, error)
	// SettleSummary removes the summary of the exit event with the given ID from the outbox of the partition and
	// counts it as stored. It then returns ResultSettled. If the summary is not in the outbox, another delivery of
	// the same exit has settled it. SettleSummary then counts a duplicate and returns ResultDuplicate. Call it
	// after the summary API has accepted the summary.
	SettleSummary(ctx context.Context, partition int, exitID string) (Result, error)
	// RecordDeadLetter counts the dead letter with the given key, unless it has already been counted.
	RecordDeadLetter(ctx context.Context, partition int, key string) error
	Durability
}

// Mark identifies a server process. A caller reads the mark before it performs a step, and passes it to WaitDurable
// afterwards.
type Mark struct {
	// Epoch identifies the server process that ran when the store last read the state of the server. It also changes if
	// the server becomes the primary by a failover.
	Epoch string
}

// Durability says when effects survive a crash of the server process.
type Durability interface {
	// Mark returns a mark of the server process of the partition. The mark is as old as the store's latest read of the
	// server's state. Mark does I/O only if the store has not read the state yet. The first call in a simulation also
	// records the simulation's number of partitions.
	Mark(ctx context.Context, partition int) (Mark, error)
	// WaitDurable waits until all effects in the partition that were reported before the call are durable. Durable
	// effects survive a crash of the server process, and a failover to one of its connected replicas. WaitDurable
	// returns ErrRolledBack if the server process is no longer the one that the mark identifies. Concurrent calls share
	// the requests to the server.
	WaitDurable(ctx context.Context, partition int, mark Mark) error
}

// Counts are the counters of the ledger. Each step updates them atomically with its effect.
type Counts struct {
	EntriesRecorded     int64
	Matched             int64
	UnmatchedExpected   int64
	UnmatchedUnexpected int64
	SummariesStored     int64
	// DuplicatesSuppressed is the number of deliveries of events that had already taken effect.
	DuplicatesSuppressed int64
	DeadLettered         int64
	Starved              int64
	// ExternalEntries, ExternalMatched and EntryNotFound are the numbers of external events by their result. Of the
	// fields above, only SummariesStored, DuplicatesSuppressed and DeadLettered include external events.
	ExternalEntries int64
	ExternalMatched int64
	EntryNotFound   int64
}

// Dataset describes the simulation's data as a whole.
type Dataset struct {
	// Partitions is the number of partitions with which the simulation started. It is 0 if the store has no data of
	// the simulation.
	Partitions int
	// LostAt is the time at which a process detected the loss of durable data. It is zero if there was no loss.
	LostAt time.Time
}

// Run describes one generator run in one partition.
type Run struct {
	Run       string
	Type      event.Type
	Partition int
	// Confirmed is the watermark: the broker has confirmed every sequence number below it. Matched and Unmatched
	// are the numbers of confirmed exits with the intents "matched" and "unmatched".
	Confirmed int64
	Matched   int64
	Unmatched int64
}

// ChunkBits is the number of sequence numbers in one chunk of the bitmaps of a generator run.
const ChunkBits = 1 << 16

// Chunk contains two bitmaps. Each has one bit for each of ChunkBits consecutive sequence numbers of a generator
// run in one partition. The most significant bit of a byte comes first, as in Redis. Missing bytes at the end count
// as zero.
type Chunk struct {
	// Each bit of Seen stands for one event. The bit is set if the event has taken effect.
	Seen []byte
	// Each bit of Matched stands for one event. The bit is set if the event has taken effect and has the intent
	// "matched".
	Matched []byte
}

// Ledger contains the queries of an audit.
type Ledger interface {
	// Counts returns the sum of the counters of all partitions.
	Counts(ctx context.Context) (Counts, error)
	// Runs returns every registered run of every partition.
	Runs(ctx context.Context) ([]Run, error)
	// Chunk returns one chunk of the bitmaps of a generator run. The chunk begins with the sequence number
	// index×ChunkBits. If no bit is set, the chunk is empty.
	Chunk(ctx context.Context, r Run, index int64) (Chunk, error)
	// Outbox returns the number of summaries, in all partitions, that the summary API has not accepted yet.
	Outbox(ctx context.Context) (int64, error)
	// Dataset describes the simulation's data. It works even if the simulation started with a different number of
	// partitions than this store was opened with.
	Dataset(ctx context.Context) (Dataset, error)
}

// Timeline stores measurements of each second. Package timeline explains how rows are merged as they grow old.
type Timeline interface {
	// AppendTimeline appends rows of one process, in ascending order of time. It returns nil once the rows survive
	// a crash of the store's server. It may be repeated with the same rows.
	AppendTimeline(ctx context.Context, process string, rows []timeline.Row) error
	// CompactTimeline merges the rows that are old enough at the given time.
	CompactTimeline(ctx context.Context, now time.Time) error
	// ReadTimeline returns the measurements in [from, to), merged over all processes and in chronological order. Rows
	// that lie only partly in the interval are included.
	ReadTimeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error)
}

// Store is the complete interface of a store.
type Store interface {
	Timeline
	Generators
	Processors
	Ledger
	// CountStarved sets the number of matched exits that a generator run could not publish because the pool was
	// empty. total is the number since the start of the run, so a repeated call changes nothing.
	CountStarved(ctx context.Context, run string, total int64) error
	// Ping returns an error if the store does not respond.
	Ping(ctx context.Context) error
	// Version returns the name and version of the server, such as "Redis 7.4.1". Without a server it returns "in
	// memory".
	Version(ctx context.Context) (string, error)
	// Purge removes all data of the simulation from the store.
	Purge(ctx context.Context) error
	Close() error
}
