package rabbitmq

// Decode is decode.
var Decode = decode

// Interrupt cuts the connection over which b consumes.
func (b *Broker) Interrupt() {
	b.consume.turn <- struct{}{}
	defer b.consume.release()
	if b.consume.current != nil {
		b.consume.current.wire.abort()
	}
}
