//go:build !parking_earlyack

package processor

// acknowledgeEarly makes a processor acknowledge each message before the message has taken effect. The build tag
// parking_earlyack sets it to true. The tests in test/faults use this to show that they would detect lost events.
const acknowledgeEarly = false
