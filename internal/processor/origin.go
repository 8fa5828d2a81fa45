package processor

import (
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// These constants limit the number of attempts to find the visit of an exit. The retry delay is usually 500 ms.
const (
	generatedAttempts = 600 // 5 minutes: an exit with the intent "matched" has an entry, which may be processed late
	externalAttempts  = 6   // 3 seconds, because an external exit may have no entry to wait for
)

// entryOrigin returns the store.Origin of the entry with the identifier id. partition is the partition of its plate.
func entryOrigin(msg *broker.Message, id string, partition int) store.Origin {
	if own, ok := generatedID(msg, id, partition); ok {
		return store.Origin{ID: id, Run: own.Run, Partition: partition, Seq: own.Seq}
	}
	return store.Origin{ID: id, Partition: partition}
}

// exitOrigin returns the origin and the intent of an exit. An exit without a valid intent counts as external.
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

// generatedID parses the identifier of an event. It returns false if the event is external.
func generatedID(msg *broker.Message, id string, partition int) (event.ID, bool) {
	if msg.AppID != event.AppID || (msg.ID != "" && msg.ID != id) {
		return event.ID{}, false
	}
	own, ok := event.ParseID(id)
	return own, ok && own.Partition == partition
}

// isLastAttempt reports whether the given attempt is the last one for an exit that finds no visit.
func isLastAttempt(origin store.Origin, attempt int) bool {
	if origin.Generated() {
		return attempt >= generatedAttempts
	}
	return attempt >= externalAttempts
}
