//go:build !parking_nodedup

package redis

// deduplicate is true if an event that has already taken effect must not take effect again. The build tag
// parking_nodedup sets deduplicate to false. The end-to-end tests use this build tag to show that they would detect
// duplicates.
const deduplicate = true
