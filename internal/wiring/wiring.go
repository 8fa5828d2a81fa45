// Package wiring opens the adapters that a plan asks for.
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

// InMemory is shown instead of an address when the broker or the store is in this process.
const InMemory = "in memory"

// Options describe the process that opens the adapters.
type Options struct {
	// Component is the client name that the servers show.
	Component  string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Broker is a broker and its address.
type Broker struct {
	broker.Broker
	// Address may be printed. It contains no password.
	Address string
	check   func(context.Context) error
	exists  func(context.Context) (bool, error)
}

// OpenBroker returns the broker of a plan, in memory if the plan names none. It does not connect.
func OpenBroker(p *plan.Plan, o Options) (*Broker, error) {
	if p.RabbitMQ == (plan.BindingRef{}) {
		b, err := memorybroker.New(memorybroker.Options{Partitions: p.Partitions})
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
	return &Broker{Broker: b, Address: shown(source, p.RabbitMQ), check: b.Check, exists: b.Exists}, nil
}

// Check connects once. Its error names the address and says what to do.
func (b *Broker) Check(ctx context.Context) error {
	if b.check == nil {
		return nil
	}
	return b.check(ctx)
}

// InMemory reports whether the broker ends with this process.
func (b *Broker) InMemory() bool { return b.Address == InMemory }

// Exists reports whether the simulation already has queues with any settings.
func (b *Broker) Exists(ctx context.Context) (bool, error) {
	if b.exists == nil {
		return false, nil
	}
	return b.exists(ctx)
}

// Store is a store and its address.
type Store struct {
	store.Store
	// Address may be printed. It contains no password.
	Address string
	// Crash loses what a crash of the server loses, as memory.Store documents. It is nil unless the store is in memory and
	// the plan has faults.
	Crash   func(draw uint64)
	check   func(context.Context) error
	exists  func(context.Context) (bool, error)
	reserve func(ctx context.Context, owner string) (bool, error)
}

// Check tries every command that a simulation uses. Its error names the address and says what to do.
func (s *Store) Check(ctx context.Context) error {
	if s.check == nil {
		return nil
	}
	return s.check(ctx)
}

// InMemory reports whether the store ends with this process.
func (s *Store) InMemory() bool { return s.Address == InMemory }

// Exists reports whether the store already has data of the simulation. It looks only at the partitions of the plan.
func (s *Store) Exists(ctx context.Context) (bool, error) {
	if s.exists == nil {
		return false, nil
	}
	return s.exists(ctx)
}

// Reserve reserves the name of the simulation for the owner until the store is purged. It reports whether the owner
// has the name. With a store in memory it always does, because no other process can ask.
func (s *Store) Reserve(ctx context.Context, owner string) (bool, error) {
	if s.reserve == nil {
		return true, nil
	}
	return s.reserve(ctx, owner)
}

// OpenStore returns the store of a plan, in memory if the plan names none. It does not connect.
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
	return &Store{Store: s, Address: shown(source, p.Redis), check: s.Check, exists: s.Exists, reserve: s.Reserve}, nil
}

// openMemoryStore opens a store in memory. It can crash if the plan has faults.
func openMemoryStore(p *plan.Plan) *Store {
	if len(p.Faults) == 0 {
		return &Store{Store: memorystore.New(p.Partitions), Address: InMemory}
	}
	s := memorystore.NewCrashable(p.Partitions)
	return &Store{Store: s, Address: InMemory, Crash: s.Crash}
}

// Source returns the source of the binding that a reference names. If the reference has a URI and a folder, the rules
// of plan.BindingRef apply.
func Source(s binding.Service, ref plan.BindingRef) (binding.Source, error) {
	switch {
	case ref.URI != "" && ref.SecretDir != "":
		return binding.URI(s, ref.URI, binding.WithFolder(ref.SecretDir))
	case ref.URI != "":
		return binding.URI(s, ref.URI)
	case ref.SecretDir != "":
		return binding.Folder(s, ref.SecretDir), nil
	}
	return nil, fmt.Errorf("the plan has no binding for %s: set uri or secretDir", s.Name)
}

// shown returns an address without password, for messages.
func shown(source binding.Source, ref plan.BindingRef) string {
	if address, err := source(); err == nil {
		return address.Redacted()
	}
	return "the address in " + ref.SecretDir
}

// RequireServers returns an error if a plan has no binding for RabbitMQ or Redis. Processes that run separately
// cannot share a broker or a store in memory.
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
