// Package resources builds every Kubernetes object that runs a ParkingSimulation. It is pure: equal Inputs give
// equal objects, and it reads and writes nothing. It does not know which objects exist.
//
// Each object has one builder and one golden file in testdata.
package resources
