//go:build parking_nodedup

package memory

const deduplicate = false
