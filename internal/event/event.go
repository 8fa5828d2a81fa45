// Package event defines, encodes and parses the messages of a parking simulation: entry events, exit events and
// summaries. It also generates the identifiers of events.
package event

import (
	"hash/fnv"
	"time"
)

// Type is the type of an event. Each partition has one queue per type.
type Type string

// The event types, as in the AMQP property "type" and the metric label event_type.
const (
	TypeEntry Type = "entry"
	TypeExit  Type = "exit"
)

// Types returns all event types, in display order.
func Types() []Type { return []Type{TypeEntry, TypeExit} }

// Intent says whether the generator of an exit event expects that the vehicle is parked.
type Intent string

// Exits that a generator publishes have the intent IntentMatched or IntentUnmatched. All other events have IntentNone.
const (
	// IntentNone is the intent of entries, and of exits without the header HeaderIntent.
	IntentNone Intent = ""
	// IntentMatched is the intent of an exit whose plate is from the pool of available plates. A visit of that plate
	// is expected to exist.
	IntentMatched Intent = "matched"
	// IntentUnmatched is the intent of an exit whose plate has never entered. No visit of that plate is
	// expected to exist.
	IntentUnmatched Intent = "unmatched"
)

// Entry is the event of a vehicle that enters the car park.
type Entry struct {
	ID    string
	Plate string
	At    time.Time
}

// Exit is the event of a vehicle that leaves the car park.
type Exit struct {
	ID    string
	Plate string
	At    time.Time
}

// Summary describes a finished visit, from its entry to its exit. ID is the identifier of the exit event.
type Summary struct {
	ID      string
	Plate   string
	EntryAt time.Time
	ExitAt  time.Time
}

// Duration is the length of the visit.
func (s Summary) Duration() time.Duration { return s.ExitAt.Sub(s.EntryAt) }

// PartitionOf returns the partition of a plate: its 32-bit FNV-1a hash modulo partitions. Both events of a visit are
// in the same partition.
func PartitionOf(plate string, partitions int) int {
	if partitions <= 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(plate)) // a hash.Hash never returns an error
	return int(h.Sum32() % uint32(partitions))
}

// AppID is the AMQP application id of generated messages.
const AppID = "parking-operator"

// ContentType is the media type of an event.
const ContentType = "application/json"

// These are the names of the headers of AMQP messages.
const (
	// HeaderIntent is the header that contains the Intent of an exit.
	HeaderIntent = "x-parking-intent"
	// HeaderScheduled is the header that contains the instant at which the event was due: the Unix time in
	// nanoseconds, as a 64-bit integer.
	HeaderScheduled = "x-parking-scheduled"
	// HeaderAttempt is the header that contains the number of times that the message has been retried, as an
	// integer.
	HeaderAttempt = "x-parking-attempt"
	// HeaderStage and HeaderReason are headers of a dead letter. HeaderStage names the processing step that
	// rejected the message, and HeaderReason says why.
	HeaderStage  = "x-parking-stage"
	HeaderReason = "x-parking-reason"
)
