// Package processor processes the events of the entry and exit queues. Workers call a Handler for one message at a
// time, because the clients of Redis and of the embedded summary API already combine concurrent calls.
//
// The handler's result alone determines how a delivery is settled. A worker retries a failed call itself, and the other
// workers continue.
package processor
