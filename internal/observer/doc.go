// Package observer reads those parts of a simulation's state that are too slow to read in a reconcile: the ledger,
// the timeline and the queues on its servers, and the number of summaries in its summary API.
//
// An Observer tracks simulations. Its goroutines poll each simulation and keep the latest Observation in memory. If
// an observation differs from the one before, they send an update. The observer does not decide anything: conditions
// and verdicts are computed elsewhere.
//
// A simulation is at rest when its generators have stopped and all of its events are processed. Only then can a
// final audit tell lost events from delayed events.
package observer
