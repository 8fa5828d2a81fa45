// Package observer reads the state of a simulation that takes too long to read in a reconcile: ledger, timeline,
// queues and number of summaries. It computes neither conditions nor verdicts.
//
// A simulation is at rest when its generators have stopped and all of its events are processed. Only then can an audit
// tell lost events from delayed events.
package observer
