// Package resources builds every Kubernetes object that runs a ParkingSimulation. It is pure: the same
// Input gives the same objects, and nothing is read or written. What is there already, and whether it is
// as it should be, is not its business.
//
// Each object has one builder, and each builder one golden file in testdata.
package resources
