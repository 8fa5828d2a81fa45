// Package controllers reconciles ParkingSimulations: it applies the objects that run a simulation, repairs and
// prunes them, and reports in the status how the simulation is doing.
//
// A reconcile runs phases in a fixed order. Each phase records findings. At the end, pure functions compute
// conditions from the findings, and the status is patched once if it has changed. A reconcile never waits for
// RabbitMQ or Redis: package observer reads them in the background and causes a reconcile when it has news.
package controllers
