//go:build !parking_noreplicas

package redis

// ignoreReplicas makes the store report effects as durable before the replicas have received them. The build tag
// parking_noreplicas sets it to true. The tests in test/faults use this to show that they would detect lost effects.
const ignoreReplicas = false
