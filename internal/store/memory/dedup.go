//go:build !parking_nodedup

package memory

// deduplicate makes the store ignore events that have already taken effect. The build tag parking_nodedup disables
// deduplication, to show that tests detect duplicates.
const deduplicate = true
