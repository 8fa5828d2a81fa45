//go:build parking_nodedup

package redis

const deduplicate = false
