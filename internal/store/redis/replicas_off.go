//go:build parking_noreplicas

package redis

const ignoreReplicas = true
