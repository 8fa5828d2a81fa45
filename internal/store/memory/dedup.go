//go:build !parking_nodedup

package memory

// deduplicate makes the store ignore an event that has taken effect before. The build tag parking_nodedup switches it
// off, to show that the fault tests detect duplicates.
const deduplicate = true
