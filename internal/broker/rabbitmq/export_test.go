package rabbitmq

import (
	"context"
	"net"
	"sync/atomic"
)

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

// CountDials returns a function that counts the attempts to open a TCP connection. Call CountDials before b connects,
// because it replaces dialTCP.
func (b *Broker) CountDials() func() int64 {
	var dials atomic.Int64
	dialTCP := b.dialer.dialTCP
	b.dialer.dialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return dialTCP(ctx, network, address)
	}
	return dials.Load
}

// HoldsLogins reports whether the connection for administrative requests has credentials in its field Config.SASL. b
// must be connected.
func (b *Broker) HoldsLogins() bool {
	b.admin.turn <- struct{}{}
	defer b.admin.release()
	return len(b.admin.current.Config.SASL) > 0
}

// ConsumesFrom returns the IP address and the port of the node from which b consumes. b must be connected.
func (b *Broker) ConsumesFrom() string {
	b.consume.turn <- struct{}{}
	defer b.consume.release()
	return b.consume.current.wire.conn.RemoteAddr().String()
}
