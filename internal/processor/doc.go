// Package processor processes the events of the entry and exit queues.
//
// Workers call a Handler for one message at a time. The clients of Redis and of the embedded summary API combine
// concurrent calls into few round trips, so the workers batch no calls.
//
// The handler's result alone determines how a delivery is settled; see the type action. A worker retries a failed call
// itself, and the other workers continue.
package processor
