// Package generator publishes the events of a simulation: entries of new plates, and exits. A given share
// of the exits uses plates that have entered.
//
// Each event passes these stages, in this order:
//
//	pacer     decides when the event is due, from the schedule alone (curve.go, pacing.go)
//	leaser    assigns its position in the simulation's sequence of plates and draws (lease.go, package sequence)
//	source    chooses its plate: a new, a claimed or an unmatched one (source.go, claim.go)
//	tracker   numbers it within its partition and tracks it until the broker confirms it (tracker.go)
//	committer records in the store which events are confirmed without a gap (commit.go)
//
// The generator acts on an answer of the store only after the answer survives a crash of the store's
// server. Until then it neither publishes leased positions and claimed plates nor drops the records of
// published events.
package generator
