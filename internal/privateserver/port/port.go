// Package port reserves loopback ports for servers. Package privateserver and tests use it.
package port

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Port is a loopback TCP port that is reserved. Other processes that use this package do not use the port, even
// while no server listens on it.
type Port struct {
	number int
	lock   net.PacketConn // an open UDP socket that serves as a lock; see reserve
}

// String returns the number of the port.
func (p Port) String() string { return strconv.Itoa(p.number) }

// Address returns the address as host:port.
func (p Port) Address() string { return net.JoinHostPort("127.0.0.1", p.String()) }

// Reserve reserves n free ports until Release is called. They are below Linux's ephemeral port range, so no outgoing
// connection takes the port of a stopped server.
func Reserve(n int) ([]Port, error) {
	const lowest, highest, attempts = 20_000, 32_000, 1_000
	var ports []Port
	for range attempts {
		if len(ports) == n {
			return ports, nil
		}
		if p, err := reserve(lowest + rand.IntN(highest-lowest)); err == nil {
			ports = append(ports, p)
		}
	}
	Release(ports)
	return nil, fmt.Errorf("reserve ports: fewer than %d ports between %d and %d are free", n, lowest, highest)
}

// reserve reserves a port if it is free. The lock is the UDP port of the same number, which no server uses.
// Processes with another TMPDIR would not see a lock file.
func reserve(number int) (Port, error) {
	p := Port{number: number}
	var config net.ListenConfig
	lock, err := config.ListenPacket(context.Background(), "udp", p.Address())
	if err != nil {
		return Port{}, err
	}
	if !isFree(p.Address()) {
		return Port{}, errors.Join(fmt.Errorf("port %d is in use", number), lock.Close())
	}
	p.lock = lock
	return p, nil
}

func isFree(address string) bool {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// Dial connects to the port and closes the connection.
func (p Port) Dial(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", p.Address())
	if err != nil {
		return err
	}
	return conn.Close()
}

// Release makes ports available to other processes.
func Release(ports []Port) {
	for _, p := range ports {
		_ = p.lock.Close()
	}
}

// Address is a loopback address that is reserved until the garbage collector frees the Address.
type Address struct{ port Port }

// ReserveAddress reserves a loopback address, at which the caller can start its own server.
func ReserveAddress() (*Address, error) {
	ports, err := Reserve(1)
	if err != nil {
		return nil, err
	}
	return &Address{port: ports[0]}, nil
}

// String returns the address as host:port.
func (a *Address) String() string { return a.port.Address() }
