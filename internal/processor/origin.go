package processor

import (
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// An exit that finds no visit passes through the retry queue this many times before the result is final.
// At a retry delay of 500 ms a generated exit waits 5 minutes for its entry, which certainly exists. An
// external exit waits 3 seconds, because its entry may not exist.
const (
	generatedAttempts = 600
	externalAttempts  = 6
)

// entryOrigin returns the origin of the entry event id, whose plate belongs to the partition.
func entryOrigin(msg *broker.Message, id string, partition int) store.Origin {
	if own, ok := generatedID(msg, id, partition); ok {
		return store.Origin{ID: id, Run: own.Run, Partition: partition, Seq: own.Seq}
	}
	return store.Origin{ID: id, Partition: partition}
}

// exitOrigin returns the origin of an exit event and the intent of its generator. An external event has no
// intent.
func exitOrigin(msg *broker.Message, id string, partition int) (store.Origin, event.Intent) {
	if msg.Intent != event.IntentMatched && msg.Intent != event.IntentUnmatched {
		return store.Origin{ID: id, Partition: partition}, event.IntentNone
	}
	origin := entryOrigin(msg, id, partition)
	if !origin.Generated() {
		return origin, event.IntentNone
	}
	return origin, msg.Intent
}

// generatedID returns the parsed identifier of a generated event. It reports false for an external event.
func generatedID(msg *broker.Message, id string, partition int) (event.ID, bool) {
	if msg.AppID != event.AppID || (msg.ID != "" && msg.ID != id) {
		return event.ID{}, false
	}
	own, ok := event.ParseID(id)
	return own, ok && own.Partition == partition
}

// isLastAttempt reports whether the result is final if the exit finds no visit now.
func isLastAttempt(origin store.Origin, attempt int) bool {
	if origin.Generated() {
		return attempt >= generatedAttempts
	}
	return attempt >= externalAttempts
}
