//go:build !parking_nodedup

package redis

// deduplicate prevents an event from taking effect twice. The build tag parking_nodedup disables deduplication, to
// show that the end-to-end tests detect duplicates.
const deduplicate = true
