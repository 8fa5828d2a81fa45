// Package controllers holds the controller of ParkingSimulations: it makes the objects that run a
// simulation, keeps them true, and says in the status how the simulation fares.
//
// A reconcile goes through phases in a fixed order. Each phase notes what it found; at the end pure
// functions make conditions of these findings, and the status is patched once, if it changed at all. Nothing
// in a reconcile waits for RabbitMQ or Redis: a reader of its own looks at their ledgers and queues, and
// calls for a reconcile when it has news.
package controllers
