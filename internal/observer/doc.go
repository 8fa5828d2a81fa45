// Package observer observes simulations in the background, because reading the servers takes too long for a reconcile.
// It reads the ledger, the timeline, the queues and the number of summaries. It computes neither conditions nor
// verdicts.
//
// A simulation is at rest when its generators have stopped and all of its events are processed. Only then can an audit
// tell lost events from delayed events.
package observer
