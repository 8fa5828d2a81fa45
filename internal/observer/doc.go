// Package observer reads what reconciling must not wait for: the ledgers, timelines and queues of simulations on
// their servers, and the number of summaries in their summary APIs.
//
// An Observer tracks simulations. Its goroutines poll each of them, keep the latest Observation in memory, and
// send an update when an observation brings news. It observes and does not decide: conditions and the verdict
// are computed elsewhere.
package observer
