// Package e2e tests the operator as users run it: on a real cluster, from the Helm chart, with the sample manifests.
// "make test-e2e" runs the tests.
//
// A test fails if a pod that it did not kill restarts, if an unexpected warning event occurs, or if objects remain
// in its namespace.
package e2e
