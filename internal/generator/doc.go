// Package generator publishes the events of a simulation: entries of vehicles with new plates, and exits. A
// configurable share of the exits are those of vehicles that have entered.
//
// Each event passes through these stages, in this order:
//
//	pacer     decides when the event is due, from the schedule alone (curve.go, pacing.go)
//	leaser    assigns the event's position in the simulation's sequence of plates and random draws (lease.go, package sequence)
//	source    chooses its plate: a new, a claimed or an unmatched one (source.go, claim.go)
//	tracker   numbers it within its partition and tracks it until the broker confirms it (tracker.go)
//	committer records in the store the number up to which all events of a partition are confirmed (commit.go)
//
// A change in the store can be lost if the store's server crashes. So the generator waits until the change is
// durable before it relies on it: before it uses leased positions or claimed plates, and before it drops its
// own records of published events.
package generator
