// Package wiring opens the broker, store and summary API adapters that a plan needs.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	memorybroker "github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	memorystore "github.com/parking-operator/parking-operator/internal/store/memory"
)

// InMemory is the text that is displayed instead of an address if the broker or the store is in the memory of this
// process.
const InMemory = "in memory"

// Options describe the process that connects to the servers.
type Options struct {
	// Component is the name that servers show for this process in their lists of clients.
	Component  string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Broker is an open broker adapter together with the address of its server.
type Broker struct {
	broker.Broker
	// Address is the address of the server without the password, for display.
	Address string
	check   func(context.Context) error
	queue   func(context.Context) error
	exists  func(context.Context) (bool, error)
	blocked func() error
}

// OpenBroker opens the broker of a plan without connecting to it. The broker is in memory if the plan has no binding
// for RabbitMQ.
func OpenBroker(p *plan.Plan, o Options) (*Broker, error) {
	if p.RabbitMQ == (plan.BindingRef{}) {
		b, err := memorybroker.New(memorybroker.Config{Partitions: p.Partitions})
		if err != nil {
			return nil, err
		}
		return &Broker{Broker: b, Address: InMemory}, nil
	}
	source, err := Source(binding.RabbitMQ(), p.RabbitMQ)
	if err != nil {
		return nil, err
	}
	b, err := openRabbitMQ(p, source, o)
	if err != nil {
		return nil, err
	}
	b.Address = shown(source, p.RabbitMQ)
	return b, nil
}

// Blocked returns an error if RabbitMQ blocks publishers because of a resource alarm. It sends no request.
func (b *Broker) Blocked() error {
	if b.blocked == nil {
		return nil
	}
	return b.blocked()
}

// Check connects to the server once. Its error contains the address of the server and says what to do.
func (b *Broker) Check(ctx context.Context) error {
	if b.check == nil {
		return nil
	}
	return b.check(ctx)
}

// CheckQueue reads only the dead-letter queue. It returns an error if the server does not respond, or if the queues
// belong to another simulation.
func (b *Broker) CheckQueue(ctx context.Context) error {
	if b.queue == nil {
		return nil
	}
	return b.queue(ctx)
}

// InMemory reports whether the broker is in the memory of this process.
func (b *Broker) InMemory() bool { return b.Address == InMemory }

// Exists reports whether the server already has queues of the simulation. Queues with other settings count too.
func (b *Broker) Exists(ctx context.Context) (bool, error) {
	if b.exists == nil {
		return false, nil
	}
	return b.exists(ctx)
}

// Store is an open store adapter together with the address of its server.
type Store struct {
	store.Store
	// Address is the address of the server without the password, for display.
	Address string
	// Crash simulates a server crash that loses the latest effects. The parameter draw is a random number that
	// determines how many effects are lost. Crash is nil unless the store is in memory and the plan has faults.
	Crash    func(draw uint64)
	check    func(context.Context) error
	writable func(context.Context) error
	exists   func(context.Context) (bool, error)
	reserve  func(ctx context.Context, owner string) (bool, error)
}

// Check tries every Redis command that a simulation uses. Its error contains the address of the server and says what to
// do.
func (s *Store) Check(ctx context.Context) error {
	if s.check == nil {
		return nil
	}
	return s.check(ctx)
}

// CheckWritable returns an error if the server does not accept a write. It writes one key to a single server, or one
// per partition of a cluster.
func (s *Store) CheckWritable(ctx context.Context) error {
	if s.writable == nil {
		return nil
	}
	return s.writable(ctx)
}

// InMemory reports whether the store is in the memory of this process.
func (s *Store) InMemory() bool { return s.Address == InMemory }

// Exists reports whether the store already contains data of the simulation. It checks only the partitions of the
// plan.
func (s *Store) Exists(ctx context.Context) (bool, error) {
	if s.exists == nil {
		return false, nil
	}
	return s.exists(ctx)
}

// Reserve reserves the simulation's name until its data are deleted, and returns false if another owner has reserved
// the name.
func (s *Store) Reserve(ctx context.Context, owner string) (bool, error) {
	if s.reserve == nil {
		return true, nil
	}
	return s.reserve(ctx, owner)
}

// OpenStore opens the store of a plan without connecting to it. The store is in memory if the plan has no binding
// for Redis.
func OpenStore(p *plan.Plan, o Options) (*Store, error) {
	if p.Redis == (plan.BindingRef{}) {
		return openMemoryStore(p), nil
	}
	source, err := Source(binding.Redis(), p.Redis)
	if err != nil {
		return nil, err
	}
	s, err := openRedis(p, source, o)
	if err != nil {
		return nil, err
	}
	s.Address = shown(source, p.Redis)
	return s, nil
}

// openMemoryStore opens a store in memory. If the plan has faults, the store supports simulated crashes.
func openMemoryStore(p *plan.Plan) *Store {
	crashable := len(p.Faults) > 0
	s := memorystore.New(memorystore.Config{Partitions: p.Partitions, Crashable: crashable})
	opened := &Store{Store: s, Address: InMemory}
	if crashable {
		opened.Crash = s.Crash
	}
	return opened
}

// Source returns a source of the binding that ref describes; see plan.BindingRef. It returns an error if ref is
// empty or its URI is invalid.
func Source(s binding.Service, ref plan.BindingRef) (binding.Source, error) {
	switch {
	case ref.URI != "":
		return binding.URI(s, ref.URI, ref.SecretDir)
	case ref.SecretDir != "":
		return binding.Directory(s, ref.SecretDir), nil
	}
	return nil, fmt.Errorf("the plan has no binding for %s: set uri or secretDir", s.Name)
}

// shown returns the address of the server without its password, or the name of the directory that should contain the
// address.
func shown(source binding.Source, ref plan.BindingRef) string {
	if address, err := source(); err == nil {
		return address.Redacted()
	}
	return "the address in " + ref.SecretDir
}

// RequireServers returns an error if a binding for RabbitMQ or Redis is missing. Separate processes cannot share a
// broker or a store in memory.
func RequireServers(p *plan.Plan) error {
	var errs []error
	for _, part := range []struct {
		service binding.Service
		ref     plan.BindingRef
	}{{binding.RabbitMQ(), p.RabbitMQ}, {binding.Redis(), p.Redis}} {
		_, err := Source(part.service, part.ref)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
