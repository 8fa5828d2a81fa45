// Package generator publishes the events of a simulation: entries of new plates, and exits, of which a
// drawn share leaves with a plate that entered.
//
// Each event goes through the same stations, and nothing flows back:
//
//	pacer    when it is due: the schedule alone decides (timeline.go, pacing.go)
//	leaser   its position in the simulation's sequence of plates and draws (lease.go, package sequence)
//	source   its plate: a new one, a claimed one or an unmatched one (source.go, claim.go)
//	tracker  its sequence number in its partition, until the broker confirmed it (tracker.go)
//	committer tells the store of what is confirmed without a gap (commit.go)
//
// What the store answers is used only when it survives a crash of the store's server: positions and
// claimed plates are not published before, and records of published events are not forgotten before.
package generator
