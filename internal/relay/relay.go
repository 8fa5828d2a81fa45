// Package relay forwards TCP connections to a server. To inject faults, it isolates the server or its clients. A
// firewall rule would not close existing connections.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// dialTimeout is how long the relay waits for the server to accept a connection.
	dialTimeout = 5 * time.Second
	// acceptRetry is the delay after a failed attempt to accept a connection.
	acceptRetry = 10 * time.Millisecond
)

// Relay forwards the connections that it accepts to one server. It is safe for concurrent use.
type Relay struct {
	listener net.Listener
	server   string
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu          sync.Mutex
	cuts        []*Cut           // the cuts that are in effect
	connections map[net.Conn]end // for each forwarded connection, the one from the client and the one to the server
	closed      bool
}

// end describes one of the two TCP connections of a forwarded connection: the connection from the client, or the
// connection to the server.
type end struct {
	client   netip.Addr
	toServer bool
}

// Cut closes and rejects the connections of clients with certain addresses, or of all clients.
type Cut struct {
	relay       *Relay
	from        []netip.Addr
	connections int // guarded by relay.mu
}

func (c *Cut) rejects(client netip.Addr) bool {
	return len(c.from) == 0 || slices.Contains(c.from, client)
}

// Connections returns the number of client connections that this cut has closed or rejected so far. A connection that
// several cuts reject counts for each of these cuts.
func (c *Cut) Connections() int {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	return c.connections
}

// Restore ends the cut. The clients can then connect again, unless another Cut rejects them.
func (c *Cut) Restore() {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	c.relay.cuts = slices.DeleteFunc(c.relay.cuts, func(other *Cut) bool { return other == c })
}

// Listen returns a relay that accepts connections at the given address and forwards them to the given server. The
// address and the server have the form host:port.
func Listen(ctx context.Context, address, server string) (*Relay, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for connections to %s: %w", server, err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Relay{listener: listener, server: server, stop: stop, connections: map[net.Conn]end{}}
	r.running.Go(func() { r.accept(running) })
	return r, nil
}

// Address returns the address at which the relay listens.
func (r *Relay) Address() string { return r.listener.Addr().String() }

// Cut closes the connections of the given clients, and rejects new ones until Cut.Restore. Without an address, Cut
// affects all clients.
func (r *Relay) Cut(from ...netip.Addr) *Cut {
	c := &Cut{relay: r, from: from}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cuts = append(r.cuts, c)
	for connection, e := range r.connections {
		if !c.rejects(e.client) {
			continue
		}
		_ = connection.Close() // an error means that the connection is already closed
		if !e.toServer {
			c.connections++
		}
	}
	return c
}

// Close closes the listener and all connections.
func (r *Relay) Close() error {
	r.stop()
	err := r.listener.Close()
	r.mu.Lock()
	r.closed = true
	for connection := range r.connections {
		_ = connection.Close() // Close fails if the connection is already closed
	}
	r.mu.Unlock()
	r.running.Wait()
	return err
}

func (r *Relay) accept(ctx context.Context) {
	for {
		client, err := r.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// The process may have too many open files. Wait until some are closed.
			select {
			case <-time.After(acceptRetry):
			case <-ctx.Done():
			}
		default:
			r.running.Go(func() { r.forward(ctx, client) })
		}
	}
}

// forward copies data in both directions between a client and the server, until the client or the server closes its
// connection.
func (r *Relay) forward(ctx context.Context, client net.Conn) {
	from := addressOf(client)
	defer r.remove(client)
	if !r.add(client, end{client: from}) {
		return
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	server, err := dialer.DialContext(ctx, "tcp", r.server)
	if err != nil {
		return
	}
	defer r.remove(server)
	if !r.add(server, end{client: from, toServer: true}) {
		return
	}
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{server, client}, {client, server}} {
		copying.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // fails when the connection is cut
			// AMQP, Redis and HTTP cannot use a connection that is closed in one direction only. So close both
			// connections.
			_ = client.Close()
			_ = server.Close()
		})
	}
	copying.Wait()
}

// add registers a connection to a client or to the server. It returns false if the client is cut off, or if the relay
// is closed.
func (r *Relay) add(c net.Conn, e end) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rejected := false
	for _, cut := range r.cuts {
		if !cut.rejects(e.client) {
			continue
		}
		rejected = true
		// Do not count a connection to the server: Relay.Cut has already counted the connection from its client.
		if !e.toServer {
			cut.connections++
		}
	}
	if r.closed || rejected {
		return false
	}
	r.connections[c] = e
	return true
}

func (r *Relay) remove(c net.Conn) {
	_ = c.Close() // Close fails if the connection is already closed
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.connections, c)
}

func addressOf(c net.Conn) netip.Addr {
	address, _ := netip.ParseAddrPort(c.RemoteAddr().String()) // RemoteAddr of a TCP connection is always valid
	return address.Addr().Unmap()
}
