// Package store defines the interfaces to the state of a simulation. Packages redis and memory implement them and
// pass the conformance suite in package storetest.
//
// A step is an atomic call that changes the state. Except for Lease, a step is idempotent: repeated with the same
// arguments, it takes effect only once; see docs/ledger.md.
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
	// ErrRolledBack means that the server may have restarted or failed over since the caller read its Mark. Effects of
	// later calls may be lost: repeat these calls.
	ErrRolledBack = errors.New("the store restarted and may have lost its latest effects; repeat the step")
	// ErrUnavailable means that a repeated call may succeed. The failed call may nevertheless have taken effect. The
	// store itself logs outages.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrNotReady is an ErrUnavailable whose cause is neither the address nor the credentials: the server cannot serve
	// now, DNS does not work, or this process has too many open files.
	ErrNotReady = errors.New("the server is not ready")
	// ErrOtherPartitions means that the simulation started with another number of partitions, so this process would
	// look for events in the wrong partitions. The method Mark returns this error.
	ErrOtherPartitions = errors.New("the number of partitions has changed since the simulation started")
	// ErrOtherOwner means that the data is marked as belonging to another simulation of the same name. The methods
	// Mark, Dataset and Purge return this error.
	ErrOtherOwner = errors.New("the data belongs to another simulation of the same name")
)

// MaxOutstanding limits how far the sequence numbers of a generator may exceed its durable watermark in a partition.
// An audit ignores events beyond the limit.
const MaxOutstanding = 1 << 16

// Counter identifies a counter that numbers the events of one type. All generators of this type share the counter. The
// number of an event is called its position.
type Counter string

// CounterEntries and CounterExits number the entries and the exits. The position determines the plate of an entry, the
// intent of an exit, and the plate of an unmatched exit.
const (
	CounterEntries Counter = "entries"
	CounterExits   Counter = "exits"
)

// Origin identifies an event. The store remembers a generated event in one bit. For an external event, Run is empty,
// and only the plate's partition remembers ID, for ExternalIDTTL.
type Origin struct {
	ID        string
	Run       string
	Partition int
	Seq       int64
}

// Generated reports whether a generator of the simulation published the event.
func (o Origin) Generated() bool { return o.Run != "" }

const (
	// ExternalIDTTL is how long a partition remembers the identifier of an external event.
	ExternalIDTTL = 24 * time.Hour
	// DeadLetterTTL is how long the store remembers the key of a dead letter. A redelivery after this time is counted
	// again.
	DeadLetterTTL = 7 * 24 * time.Hour
)

// Published is an event whose publication the broker has confirmed.
type Published struct {
	Plate string
	At    time.Time
	// Intent says whether an exit is expected to find a parked vehicle. It is IntentNone for an entry.
	Intent event.Intent
}

// Confirmation records that consecutive events of a generator process are confirmed, and moves the watermark past
// them.
type Confirmation struct {
	Run       string
	Type      event.Type
	Partition int
	// From is the sequence number of Events[0]. The events have consecutive sequence numbers. If there are no events,
	// the store only registers the generator process.
	From   int64
	Events []Published
	// MaxStay is the longest time between an entry and its exit. Confirm removes plates from the pool if their entries
	// are at least MaxStay older than the newest of Events.
	MaxStay time.Duration
}

// Newest returns the time of the latest event. There must be at least one event.
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
	// MaxClaim is the maximum number of plates in one claim, even if Claim.Limit is larger. A larger claim would block
	// other calls for too long.
	MaxClaim = 1024
	// ClaimsRemembered is how many of the latest claims (requests for plates) the store remembers for each generator
	// run and partition. Only remembered claims can be repeated or released.
	ClaimsRemembered = 64
)

// Claim is a request for plates of parked vehicles. A generator uses the plates for exits.
type Claim struct {
	Run       string
	Partition int
	// Token identifies a claim within its run and partition. A repeated claim returns the same plates, or none after
	// Release. The store forgets claims without plates.
	Token int64
	// Limit is the maximum number of plates to claim.
	Limit int
	// Now, MinStay and MaxStay select the plates by their entry time, which must be at least MinStay and less than
	// MaxStay before Now.
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
	// VisitMargin plus MaxStay is the lifetime of an unclaimed visit. Because of the margin, the visit still exists
	// when its plate is claimed at the last moment.
	VisitMargin = time.Minute
	// ClaimedStay plus MaxStay is the lifetime of a claimed visit. It is long enough for an exit that waits in a
	// queue for hours.
	ClaimedStay = 24 * time.Hour
)

// Generators contains the methods of a store that generators call.
type Generators interface {
	// Lease reserves n consecutive positions of a counter and returns the first. No later lease contains a durably
	// leased position. A lost reply leaves the positions unused.
	Lease(ctx context.Context, counter Counter, n int) (first int64, err error)
	// Confirm records the confirmed events that are not recorded yet, and adds the plates of their entries to the pool.
	// It returns the watermark: all events below it are recorded.
	//
	// If the watermark is below From, the store has lost confirmations, and the call has changed nothing. The caller
	// must then confirm all events from the watermark on.
	Confirm(ctx context.Context, c Confirmation) (next int64, err error)
	// Claim removes up to Limit plates from the pool, earliest entries first. It also extends the lifetimes of the
	// visits of these plates, so that the exits find the visits.
	Claim(ctx context.Context, c Claim) ([]Plate, error)
	// Release returns a claim's unused plates to the pool. Only the first call for a claim has an effect: pass all
	// unused plates, after the claim's last exit.
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
	// MaxStay is the longest time between an entry and its exit. It determines how long the visit exists; see
	// VisitMargin and ClaimedStay.
	MaxStay time.Duration
}

// ExitStep is the argument of RecordExit: an exit to match with its entry.
type ExitStep struct {
	Origin    Origin
	Partition int
	Plate     string
	At        time.Time
	// Intent is the intent of a generated exit. If Intent is empty, the intent "matched" applies. The store ignores
	// the intent of an external exit.
	Intent event.Intent
	// LastAttempt matters only if an exit that needs a visit finds none. If LastAttempt is true, the exit takes effect
	// without a visit. Otherwise, RecordExit returns ResultEarly.
	LastAttempt bool
}

// Result says what a call of RecordEntry, RecordExit or SettleSummary has changed.
type Result string

// The possible results. A result is final if the event has taken effect. After a final result, another call returns
// ResultPending while the summary is in the outbox, and ResultDuplicate otherwise.
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
	// ResultPending means that an earlier call has ended the visit, and that the summary is still in the outbox.
	ResultPending Result = "pending"
	// ResultEarly means that the exit found no visit, but may find one in a later attempt. RecordExit changed nothing.
	ResultEarly Result = "early"
	// ResultPrecedesEntry means that the exit is dated before the entry of its visit. RecordExit changed nothing.
	ResultPrecedesEntry Result = "precedes_entry"
	// ResultDuplicate means that the event has already taken effect. The call only counted a duplicate.
	ResultDuplicate Result = "duplicate"
	// ResultSettled means that the summary has left the outbox, and is now counted as stored.
	ResultSettled Result = "settled"
)

// ExitResult is the result of RecordExit. Summary is set only if Result is ResultMatched or ResultPending.
type ExitResult struct {
	Result  Result
	Summary event.Summary
}

// Processors contains the methods of a store that processors call.
type Processors interface {
	// RecordEntry creates the visit of a plate. If the plate already has a visit, the new visit replaces the old visit.
	RecordEntry(ctx context.Context, s EntryStep) (Result, error)
	// RecordExit ends the visit of a plate and puts the summary of the visit into the outbox.
	RecordExit(ctx context.Context, s ExitStep) (ExitResult, error)
	// SettleSummary counts an accepted summary as stored and removes it from the outbox. If another delivery of the
	// exit was faster, SettleSummary counts a duplicate and returns ResultDuplicate.
	SettleSummary(ctx context.Context, partition int, exitID string) (Result, error)
	// RecordDeadLetter counts the dead letter with the given key, unless it has already been counted.
	RecordDeadLetter(ctx context.Context, partition int, key string) error
	Durability
}

// Mark identifies a server process. A caller reads the mark before a change and passes it to WaitDurable after the
// change, so that WaitDurable can detect a restart in between.
type Mark struct {
	// Epoch identifies the server process at the latest read of the server's state. A failover also changes Epoch.
	Epoch string
}

// Durability says when effects survive a crash of the server process.
type Durability interface {
	// Mark identifies the server process of the partition. The first call reads the server and records the number of
	// partitions. Mark returns ErrOtherPartitions if another number is already recorded.
	Mark(ctx context.Context, partition int) (Mark, error)
	// WaitDurable waits until earlier effects in the partition survive a crash and a failover to a connected replica.
	// It returns ErrRolledBack if the given mark is outdated, because effects may then be lost.
	WaitDurable(ctx context.Context, partition int, mark Mark) error
}

// Counts are the counters of the ledger. They change in the same atomic operation as the state that they describe.
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
	// ExternalEntries, ExternalMatched and EntryNotFound count the events of external publishers by result. Of the
	// fields above, only SummariesStored, DuplicatesSuppressed and DeadLettered include such events.
	ExternalEntries int64
	ExternalMatched int64
	EntryNotFound   int64
}

// Dataset describes the stored data of the whole simulation, not of one partition.
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
	// Confirmed is the watermark: the broker has confirmed every event with a lower sequence number.
	Confirmed int64
	// Matched and Unmatched are the numbers of confirmed exits with the intents "matched" and "unmatched".
	Matched   int64
	Unmatched int64
}

// ChunkBits is the number of sequence numbers in one chunk of the bitmaps of a generator run.
const ChunkBits = 1 << 16

// Chunk contains two bitmaps of consecutive sequence numbers of a run. The most significant bit of a byte is first,
// as in Redis. Missing bytes count as zero.
type Chunk struct {
	// Seen has one bit for each event. The bit is set if the event has taken effect.
	Seen []byte
	// Matched has one bit for each event. The bit is set if the event has taken effect and has the intent "matched".
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
	// AppendTimeline appends rows of one process, in ascending order of time. It returns nil once the rows survive a
	// crash. A repeated call with the same rows changes nothing.
	AppendTimeline(ctx context.Context, process string, rows []timeline.Row) error
	// CompactTimeline merges rows that are old enough at the time now into rows that cover a longer time.
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
	// CountStarved sets the number of exits that a generator process (run) could not publish since its start because no
	// plate was available. A repeated call changes nothing.
	CountStarved(ctx context.Context, run string, total int64) error
	// Ping returns an error if the store does not respond.
	Ping(ctx context.Context) error
	// Version returns the name and version of the server, such as "Redis 7.4.1". A store without a server returns "in
	// memory".
	Version(ctx context.Context) (string, error)
	// Purge removes all data of the simulation from the store.
	Purge(ctx context.Context) error
	Close() error
}
