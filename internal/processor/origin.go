package processor

import (
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// How often an exit that meets no visit passes through the retry queue before that is final. At the
// retry delay of 500 ms a generated exit waits 5 minutes for its entry, which is certain to come; a
// stranger's, whose entry may never have been, 3 seconds.
const (
	generatedAttempts = 600
	strangerAttempts  = 6
)

// entryOrigin identifies the entry event id, of a plate of the given partition, to the store.
func entryOrigin(msg *broker.Message, id string, partition int) store.Origin {
	if own, ok := generatedID(msg, id, partition); ok {
		return store.Origin{ID: id, Run: own.Run, Partition: partition, Seq: own.Seq}
	}
	return store.Origin{ID: id, Partition: partition}
}

// exitOrigin identifies an exit event likewise. A generated exit always carries its generator's intent;
// a stranger has none to declare.
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

// generatedID returns the identifier of an event that this system generated, and false for a stranger's.
func generatedID(msg *broker.Message, id string, partition int) (event.ID, bool) {
	if msg.AppID != event.AppID || (msg.ID != "" && msg.ID != id) {
		return event.ID{}, false
	}
	own, ok := event.ParseID(id)
	return own, ok && own.Partition == partition
}

// isLastAttempt reports whether an exit that meets no visit now is final.
func isLastAttempt(origin store.Origin, attempt int) bool {
	if origin.Generated() {
		return attempt >= generatedAttempts
	}
	return attempt >= strangerAttempts
}
