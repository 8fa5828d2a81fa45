// Package process injects faults into servers that run as child processes. It sends signals to a server, and uses a
// relay to cut the connections to the server.
package process

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/parking-operator/parking-operator/internal/relay"
)

// Daemon is a server that runs as a child process, such as a server of package privateserver.
type Daemon interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Kill() error
	Pause() error
	Resume() error
	URI() string
	Close() error
}

// Server is a server process, together with the relay through which clients connect. It implements
// fault.Instance.
type Server struct {
	name   string
	daemon Daemon
	relay  *relay.Relay
	uri    string
	// closing is the context in which the server starts again after the fault Stop. Close ends it.
	closing context.Context //nolint:containedctx // the start continues after Stop has returned
	close   context.CancelFunc

	mu sync.Mutex // serializes the calls of the Daemon, whose methods are not safe for concurrent use
}

// NewServer returns a Server for a running process, and starts a relay in front of the process. The method Close also
// kills the process and deletes its data.
func NewServer(ctx context.Context, name string, d Daemon) (*Server, error) {
	u, err := url.Parse(d.URI())
	if err != nil {
		// Omit err, because its text contains the URI with the password.
		return nil, fmt.Errorf("the URI of the %s is invalid", name)
	}
	forwarding, err := relay.Listen(ctx, "127.0.0.1:0", u.Host)
	if err != nil {
		return nil, err
	}
	u.Host = forwarding.Address()
	s := &Server{name: name, daemon: d, relay: forwarding, uri: u.String()}
	s.closing, s.close = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// Name implements fault.Instance.
func (s *Server) Name() string { return s.name }

// URI returns the URI at which clients reach the server through the relay. The URI contains the user name and the
// password.
func (s *Server) URI() string { return s.uri }

// Stop implements fault.Instance. It uses SIGKILL for a crash, and SIGTERM otherwise. The server starts again in the
// background, with the same data.
func (s *Server) Stop(ctx context.Context, crash bool, _ uint64) (started func(context.Context) error, err error) {
	if err := s.end(ctx, crash); err != nil {
		return nil, err
	}
	result := make(chan error, 1)
	go func() { result <- s.start() }()
	return func(ctx context.Context) error {
		select {
		case err := <-result:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil
}

func (s *Server) end(ctx context.Context, crash bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if crash {
		return s.daemon.Kill()
	}
	return s.daemon.Stop(ctx)
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.daemon.Start(s.closing)
}

// Pause implements fault.Instance. It suspends the process with SIGSTOP. The returned function resumes the process.
func (s *Server) Pause(context.Context) (release func() error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.daemon.Resume()
	}, s.daemon.Pause()
}

// Isolate implements fault.Instance. It cuts all connections to the server and rejects new connections, until the
// caller calls the returned function.
func (s *Server) Isolate(context.Context) (release func() error, err error) {
	cut := s.relay.Cut()
	return func() error {
		cut.Restore()
		return nil
	}, nil
}

// Close closes the relay, kills the server and deletes the data of the server.
func (s *Server) Close() error {
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.relay.Close(), s.daemon.Close())
}
