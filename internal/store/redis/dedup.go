//go:build !parking_nodedup

package redis

// deduplicate makes a step change nothing if its event has already taken effect. The build tag parking_nodedup sets
// it to false. The end-to-end tests use this to show that they would detect duplicates.
const deduplicate = true
