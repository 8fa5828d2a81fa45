// Package e2e tests the operator as users run it: on a real cluster, installed with the Helm chart, with simulations
// created from the sample manifests.
//
// The tests have the build tag e2e and need a cluster; "make test-e2e" runs them. A test fails if a pod that it did not
// kill restarts, if an unexpected warning event occurs, or if objects remain in its namespace.
package e2e
