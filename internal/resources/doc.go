// Package resources builds every Kubernetes object that runs a ParkingSimulation. It is pure: equal inputs yield
// equal objects, and it does no I/O. It does not know which objects already exist.
//
// Each object has one builder and one golden file in testdata.
package resources
