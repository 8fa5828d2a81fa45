// Package e2e tests the operator as its users run it: installed with the chart that is shipped, on a real
// cluster, with simulations made of the samples that are shipped.
//
// The tests have the build tag e2e and need a cluster, so that make test-e2e runs them. They fail when a
// pod restarts that nobody killed, when a warning appears that is not on the short list of expected ones,
// and when anything stays behind in a namespace.
package e2e
