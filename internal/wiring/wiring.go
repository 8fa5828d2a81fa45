// Package wiring connects the processes of a simulation to the servers that a plan names.
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

// InMemory is what stands for the address of a part that is inside this process.
const InMemory = "in memory"

// Options say who connects.
type Options struct {
	// Component names the process to the servers.
	Component  string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Broker is a simulation's broker and where it is.
type Broker struct {
	broker.Broker
	// Address may be printed: it holds no password.
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

// Check connects once. Its error names the address and the remedy.
func (b *Broker) Check(ctx context.Context) error {
	if b.check == nil {
		return nil
	}
	return b.check(ctx)
}

// InMemory reports whether the broker ends with this process.
func (b *Broker) InMemory() bool { return b.Address == InMemory }

// Exists reports whether the broker knows the simulation from before, by whatever settings.
func (b *Broker) Exists(ctx context.Context) (bool, error) {
	if b.exists == nil {
		return false, nil
	}
	return b.exists(ctx)
}

// Store is a simulation's store and where it is.
type Store struct {
	store.Store
	// Address may be printed: it holds no password.
	Address string
	check   func(context.Context) error
	exists  func(context.Context) (bool, error)
	reserve func(ctx context.Context, owner string) (bool, error)
}

// Check tries on the store whatever a simulation does there. Its error names the address and the remedy.
func (s *Store) Check(ctx context.Context) error {
	if s.check == nil {
		return nil
	}
	return s.check(ctx)
}

// InMemory reports whether the store ends with this process.
func (s *Store) InMemory() bool { return s.Address == InMemory }

// Exists reports whether the store knows the simulation from before, with as many partitions or fewer.
func (s *Store) Exists(ctx context.Context) (bool, error) {
	if s.exists == nil {
		return false, nil
	}
	return s.exists(ctx)
}

// Reserve takes the simulation's name for the owner, until the store is purged, and reports whether it is the
// owner's. One in memory has no other process that could ask for it.
func (s *Store) Reserve(ctx context.Context, owner string) (bool, error) {
	if s.reserve == nil {
		return true, nil
	}
	return s.reserve(ctx, owner)
}

// OpenStore returns the store of a plan, in memory if the plan names none. It does not connect.
func OpenStore(p *plan.Plan, o Options) (*Store, error) {
	if p.Redis == (plan.BindingRef{}) {
		return &Store{Store: memorystore.New(p.Partitions), Address: InMemory}, nil
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

// Source returns the source of the binding that a reference names. See plan.BindingRef for a reference with both a URI
// and a folder.
func Source(s binding.Service, ref plan.BindingRef) (binding.Source, error) {
	switch {
	case ref.URI != "" && ref.SecretDir != "":
		return binding.URI(s, ref.URI, binding.WithFolder(ref.SecretDir))
	case ref.URI != "":
		return binding.URI(s, ref.URI)
	case ref.SecretDir != "":
		return binding.Folder(s, ref.SecretDir), nil
	}
	return nil, fmt.Errorf("the plan does not say where %s is: set uri or secretDir", s.Name)
}

// shown is what may be printed of the address of an endpoint.
func shown(source binding.Source, e plan.BindingRef) string {
	if address, err := source(); err == nil {
		return address.Redacted()
	}
	return "the address in " + e.SecretDir
}

// RequireServers refuses a plan that leaves broker or store in memory, where another process cannot find
// them.
func RequireServers(p *plan.Plan) error {
	var errs []error
	for _, part := range []struct {
		service  binding.Service
		endpoint plan.BindingRef
	}{{binding.RabbitMQ(), p.RabbitMQ}, {binding.Redis(), p.Redis}} {
		_, err := Source(part.service, part.endpoint)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
