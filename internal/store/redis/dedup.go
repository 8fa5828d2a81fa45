//go:build !parking_nodedup

package redis

// deduplicate makes a step change nothing if its event has taken effect before. The build tag parking_nodedup
// disables this, to show that the end-to-end tests detect duplicates.
const deduplicate = true
