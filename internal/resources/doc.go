// Package resources builds every Kubernetes object that runs a ParkingSimulation. Equal inputs yield equal objects, and
// the package does no I/O.
//
// Each object has one builder and one golden file in testdata.
package resources
