// Package event defines what travels through a parking simulation: entry events, exit events and the
// summaries of finished visits, together with their wire format and the identifiers that make each of
// them countable.
package event

import (
	"hash/fnv"
	"time"
)

// Type says which of the two queues of a partition an event belongs to.
type Type string

// The event types. They are the values of the AMQP property "type" and of the metric label event_type.
const (
	TypeEntry Type = "entry"
	TypeExit  Type = "exit"
)

// Types lists every event type, in the order in which they are shown to people.
func Types() []Type { return []Type{TypeEntry, TypeExit} }

// Intent is what the generator of an exit event meant to happen.
type Intent string

// The intents. Strangers' events, and entries, carry none.
const (
	// IntentNone is the intent of every entry, and of an exit that carries no intent header.
	IntentNone Intent = ""
	// IntentMatched marks an exit whose plate was claimed from the pool of available plates.
	IntentMatched Intent = "matched"
	// IntentUnmatched marks an exit of a plate that never entered: finding no visit is its expected outcome.
	IntentUnmatched Intent = "unmatched"
)

// Entry is a vehicle entering the car park.
type Entry struct {
	ID    string
	Plate string
	At    time.Time
}

// Exit is a vehicle leaving the car park.
type Exit struct {
	ID    string
	Plate string
	At    time.Time
}

// Summary is a finished visit: an entry and the exit that ended it. ID is the exit event's.
type Summary struct {
	ID      string
	Plate   string
	EntryAt time.Time
	ExitAt  time.Time
}

// Duration is the length of the visit.
func (s Summary) Duration() time.Duration { return s.ExitAt.Sub(s.EntryAt) }

// PartitionOf returns the partition, in [0, partitions), in which both events of a plate meet:
// the 32-bit FNV-1a hash of the plate modulo the number of partitions.
func PartitionOf(plate string, partitions int) int {
	if partitions <= 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(plate)) // a hash.Hash never returns an error
	return int(h.Sum32() % uint32(partitions))
}

// AppID is the AMQP application id of the messages that this system publishes.
const AppID = "parking-operator"

// ContentType is the media type of an event.
const ContentType = "application/json"

// Header names of the AMQP messages.
const (
	// HeaderIntent carries the Intent of a generated exit.
	HeaderIntent = "x-parking-intent"
	// HeaderScheduled carries the scheduled instant as Unix nanoseconds (a 64-bit integer).
	HeaderScheduled = "x-parking-scheduled"
	// HeaderAttempt counts the passes through the retry queue (an integer).
	HeaderAttempt = "x-parking-attempt"
	// HeaderStage and HeaderReason say of a dead letter which stage refused it and why.
	HeaderStage  = "x-parking-stage"
	HeaderReason = "x-parking-reason"
)
