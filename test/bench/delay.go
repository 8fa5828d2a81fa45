package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"
)

// delayRelay forwards TCP connections to a server with a delay. As in a long cable, many chunks can be on their way
// at the same time.
type delayRelay struct {
	listener net.Listener
	server   string
	delay    time.Duration
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// listenDelayed returns a relay to the server with the given address, which has the form host:port.
func listenDelayed(ctx context.Context, server string, delay time.Duration) (*delayRelay, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for connections to %s: %w", server, err)
	}
	ctx, stop := context.WithCancel(ctx)
	d := &delayRelay{listener: listener, server: server, delay: delay, stop: stop}
	d.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			d.running.Go(func() { d.forward(ctx, client) })
		}
	})
	return d, nil
}

func (d *delayRelay) address() string { return d.listener.Addr().String() }

func (d *delayRelay) close() error {
	d.stop()
	err := d.listener.Close()
	d.running.Wait()
	return err
}

// forward copies data in both directions until one end closes its connection or ctx ends.
func (d *delayRelay) forward(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	var dialer net.Dialer
	server, err := dialer.DialContext(ctx, "tcp", d.server)
	if err != nil {
		return // the deferred Close ends the client's connection
	}
	defer func() { _ = server.Close() }()
	ctx, end := context.WithCancel(ctx)
	var copying sync.WaitGroup
	copying.Go(func() { defer end(); d.copy(ctx, server, client) })
	copying.Go(func() { defer end(); d.copy(ctx, client, server) })
	<-ctx.Done()
	_ = client.Close() // closing both connections ends the copying goroutines
	_ = server.Close()
	copying.Wait()
}

// chunk is a part of the relayed data, with the time at which it must be written.
type chunk struct {
	due  time.Time
	data []byte
}

// copy copies data from one connection to the other. Each chunk is written after the delay.
func (d *delayRelay) copy(ctx context.Context, to, from net.Conn) {
	chunks := make(chan chunk, 4096)
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				select {
				case chunks <- chunk{time.Now().Add(d.delay), buffer[:n]}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for c := range chunks {
		select {
		case <-time.After(time.Until(c.due)):
		case <-ctx.Done():
			return
		}
		if _, err := to.Write(c.data); err != nil {
			return
		}
	}
}

// delayRelays are the relays between the processors and the servers.
type delayRelays []*delayRelay

func (d delayRelays) close() error {
	var errs []error
	for _, relay := range d {
		errs = append(errs, relay.close())
	}
	return errors.Join(errs...)
}

// moveAway makes the processors of env connect to each server through a relay. The caller must close the relays,
// even if there is an error.
func moveAway(ctx context.Context, env *environment) (delayRelays, error) {
	var relays delayRelays
	throughRelay := func(raw string) (string, error) {
		uri, err := url.Parse(raw)
		if err != nil {
			return "", errors.New("the URI of a private server is invalid") // omit the cause, which contains the password
		}
		relay, err := listenDelayed(ctx, uri.Host, distance)
		if err != nil {
			return "", err
		}
		relays = append(relays, relay)
		uri.Host = relay.address()
		return uri.String(), nil
	}
	var nodes []string
	for node := range strings.SplitSeq(env.amqpURI, ",") {
		uri, err := throughRelay(node)
		if err != nil {
			return relays, err
		}
		nodes = append(nodes, uri)
	}
	env.processorAMQPURI = strings.Join(nodes, ",")
	var err error
	env.processorRedisURI, err = throughRelay(env.redisURI)
	return relays, err
}
