//go:build parking_earlyack

package processor

const acknowledgeEarly = true
