// Package e2e tests the operator as users run it: installed with the shipped chart on a real cluster, with simulations
// created from the shipped samples.
//
// The tests have the build tag e2e and need a cluster; make test-e2e runs them. A test fails when a pod restarts that the
// test did not kill, when an unexpected warning event appears, and when objects remain in its namespace.
package e2e
