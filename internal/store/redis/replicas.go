//go:build !parking_noreplicas

package redis

// ignoreReplicas makes the store report effects as durable before replicas have them. The build tag
// parking_noreplicas sets it, to show that test/faults detects lost effects.
const ignoreReplicas = false
