//go:build !parking_nodedup

package memory

// deduplicate makes the store ignore events that have already taken effect. The build tag parking_nodedup sets it
// to false. Tests use this to show that they would detect duplicates.
const deduplicate = true
