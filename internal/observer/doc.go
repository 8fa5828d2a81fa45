// Package observer reads those parts of a simulation's state that are too slow to read in a reconcile: the ledger,
// the timeline and the queues on the simulation's servers, and the number of summaries in its summary API.
//
// An Observer polls each tracked simulation, keeps the latest Observation in memory, and sends an update if the
// Observation differs from the previous Observation. The Observer does not decide anything: conditions and verdicts are
// computed elsewhere.
//
// A simulation is at rest when its generators have stopped and all of its events are processed. Only then can a
// final audit tell lost events from delayed events.
package observer
