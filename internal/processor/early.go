//go:build !parking_earlyack

package processor

// acknowledgeEarly makes a processor acknowledge messages before they take effect. Only the build tag parking_earlyack
// sets it, to test the detection of lost events.
const acknowledgeEarly = false
