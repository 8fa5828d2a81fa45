// Package event defines the messages of a parking simulation: entry events, exit events and the summaries of
// finished visits. It encodes and parses them, and generates their identifiers, by which each event is counted
// exactly once.
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

// Intent is the outcome that the generator of an exit event expects.
type Intent string

// The intents. Only generated exits have one other than IntentNone.
const (
	// IntentNone is the intent of entries, and of exits without the intent header.
	IntentNone Intent = ""
	// IntentMatched is the intent of an exit whose plate was claimed from the pool of available plates.
	IntentMatched Intent = "matched"
	// IntentUnmatched is the intent of an exit whose plate never entered. It is expected to find no visit.
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

// PartitionOf returns the partition of a plate, from 0 to partitions-1: the 32-bit FNV-1a hash of the plate modulo
// the number of partitions. Both events of a visit are in the same partition.
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

// Header names of the AMQP messages.
const (
	// HeaderIntent is the header with the Intent of a generated exit.
	HeaderIntent = "x-parking-intent"
	// HeaderScheduled is the header with the instant at which the event was due: Unix time in nanoseconds, a
	// 64-bit integer.
	HeaderScheduled = "x-parking-scheduled"
	// HeaderAttempt is the header that counts the retries of a message, an integer.
	HeaderAttempt = "x-parking-attempt"
	// HeaderStage and HeaderReason are the headers of a dead letter that say which stage of the processor
	// rejected the message, and why.
	HeaderStage  = "x-parking-stage"
	HeaderReason = "x-parking-reason"
)
