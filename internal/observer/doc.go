// Package observer reads the state of simulations that is too slow to read in a reconcile: the ledgers,
// timelines and queues on their servers, and the number of summaries in their summary APIs.
//
// An Observer tracks simulations. Its goroutines poll each of them, keep the latest Observation in memory, and
// send an update when an observation brings news. It does not decide anything: conditions and verdicts are
// computed elsewhere.
//
// A simulation is at rest when its generators have stopped and no event is in flight. Only then can a final
// audit tell lost events from delayed ones.
package observer
