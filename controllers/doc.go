// Package controllers reconciles ParkingSimulations. It applies the objects that a simulation needs, restores
// objects that others change, prunes objects that are no longer desired, and reports the state of the simulation in
// the status.
//
// A reconcile runs phases in a fixed order. Each phase records findings: the state of one part of the simulation, with
// a reason and a message. At the end, pure functions compute the conditions from the findings, and the operator patches
// the status once if it has changed. A reconcile never waits for RabbitMQ or Redis. Instead, package observer reads
// these servers in the background, and causes a reconcile when its observation changes.
package controllers
