package processor

import (
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// These constants limit how often an exit that finds no visit is retried before the result is final. With a retry
// delay of 500 ms a generated exit waits 5 minutes for its entry, which certainly exists. An external exit waits 3
// seconds, because its entry may not exist.
const (
	generatedAttempts = 600
	externalAttempts  = 6
)

// entryOrigin returns the store.Origin of the entry with the identifier id. partition is the partition of its plate.
func entryOrigin(msg *broker.Message, id string, partition int) store.Origin {
	if own, ok := generatedID(msg, id, partition); ok {
		return store.Origin{ID: id, Run: own.Run, Partition: partition, Seq: own.Seq}
	}
	return store.Origin{ID: id, Partition: partition}
}

// exitOrigin returns the origin of an exit and its intent. The intent says whether the generator expects the exit
// to find a visit. An external exit has no intent.
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

// generatedID parses the identifier of a generated event. It returns false for an event of an external publisher.
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
