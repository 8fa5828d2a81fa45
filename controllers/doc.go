// Package controllers reconciles ParkingSimulations: it applies, restores and prunes their objects, and reports their
// state.
//
// A reconcile runs phases, which record findings, in a fixed order. Pure functions then compute the conditions from
// the findings. A reconcile never waits for RabbitMQ or Redis: package observer reads them in the background, and
// causes a reconcile when its observation changes.
package controllers
