//go:build !parking_earlyack

package processor

// acknowledgeEarly makes a processor acknowledge messages before they take effect. The build tag parking_earlyack
// sets it, so that test/faults can show that its tests detect lost events.
const acknowledgeEarly = false
