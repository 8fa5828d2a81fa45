//go:build !parking_nodedup

package redis

// deduplicate makes a step whose event took effect before change nothing. Building with the tag
// parking_nodedup switches that off, to show that the tests of the whole can see duplicates.
const deduplicate = true
