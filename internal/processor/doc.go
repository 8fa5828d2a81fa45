// Package processor processes the events of the entry and exit queues.
//
// Workers call a Handler for one message at a time. The adapters combine concurrent calls into few round trips, so
// nothing here batches calls.
//
// The handler's result alone determines how a delivery is settled; see action. A worker retries a failed call itself,
// and the other workers continue.
package processor
