package rabbitmq

// Decode is the function decode, exported for the tests in package rabbitmq_test.
var Decode = decode

// Interrupt closes the connection that b uses to consume.
func (b *Broker) Interrupt() {
	b.consume.turn <- struct{}{}
	defer b.consume.release()
	if b.consume.current != nil {
		b.consume.current.wire.abort()
	}
}
