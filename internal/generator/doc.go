// Package generator publishes the events of a simulation: entries with new plates, and exits, of which a configurable
// share matches an entry. Each event passes through these stages:
//
//	pacer     decides when the event is due (pacing.go, curve.go)
//	leaser    assigns a position in the sequence (lease.go, package sequence)
//	source    chooses the plate (source.go, claim.go)
//	tracker   numbers the event and tracks its confirm (tracker.go)
//	committer records the confirm in the store (commit.go)
//
// The generator relies on a change in the store only once the change is durable. Until then, a crash of the store's
// server can undo the change.
package generator
