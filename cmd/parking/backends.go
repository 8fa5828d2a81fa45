package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const (
	// reachTimeout bounds how long a server may take to answer before anything is started or removed.
	reachTimeout = 5 * time.Second
	// purgeTimeout bounds how long it may take to remove a simulation from its servers.
	purgeTimeout = 30 * time.Second
)

// backends are the broker and the store that a plan names.
type backends struct {
	broker *wiring.Broker
	store  *wiring.Store
}

// openServers opens broker and store of a process that runs beside others. It does not connect.
func openServers(p *plan.Plan, o wiring.Options) (backends, error) {
	if err := wiring.RequireServers(p); err != nil {
		return backends{}, badInput(err)
	}
	return openNamed(p, o, "rabbitmq", "redis")
}

// open opens the broker and the store that flags name, in memory where they name none.
func open(p *plan.Plan, o wiring.Options) (backends, error) {
	return openNamed(p, o, "--"+flagRabbitMQ, "--"+flagRedis)
}

// openNamed opens broker and store; its errors begin with what names the one that cannot be.
func openNamed(p *plan.Plan, o wiring.Options, brokerName, storeName string) (backends, error) {
	b, err := wiring.OpenBroker(p, o)
	if err != nil {
		return backends{}, badInput(fmt.Errorf("%s: %w", brokerName, err))
	}
	s, err := wiring.OpenStore(p, o)
	if err != nil {
		return backends{}, badInput(errors.Join(fmt.Errorf("%s: %w", storeName, err), b.Close()))
	}
	return backends{broker: b, store: s}, nil
}

// ready are the checks of a process that needs broker and store.
func (s backends) ready() []httpserver.Check {
	return []httpserver.Check{
		{Name: "RabbitMQ", Check: func(ctx context.Context) error {
			_, err := s.broker.Depths(ctx)
			return err
		}},
		{Name: "Redis", Check: s.store.Ping},
	}
}

// reach connects to the servers that flags name. Its error names the one that does not answer, and the
// remedy.
func (s backends) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var errs [2]error
	var asking sync.WaitGroup
	asking.Go(func() {
		if err := s.broker.Check(ctx); err != nil {
			errs[0] = fmt.Errorf("--rabbitmq-uri: %w", err)
		}
	})
	asking.Go(func() {
		if err := s.store.Ping(ctx); err != nil {
			errs[1] = fmt.Errorf("--redis-uri: %w", err)
		}
	})
	asking.Wait()
	return errors.Join(errs[:]...)
}

// usable refuses a store on which a simulation may not do what it does.
func (s backends) usable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if err := s.store.Check(ctx); err != nil {
		return badInput(fmt.Errorf("--redis-uri: %w", err))
	}
	return nil
}

// unused refuses a simulation that the servers know already.
func (s backends) unused(ctx context.Context, simulation string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	for _, server := range []struct {
		what, address string
		exists        func(context.Context) (bool, error)
	}{{"queues", s.broker.Address, s.broker.Exists}, {"keys", s.store.Address, s.store.Exists}} {
		switch exists, err := server.exists(ctx); {
		case err != nil:
			return err
		case exists:
			return badInput(fmt.Errorf("--simulation: there are %s of %q on %s already: choose another name, or remove them with 'parking purge --simulation %s'",
				server.what, simulation, server.address, simulation))
		}
	}
	return nil
}

// reserve takes the simulation's name, of which another process may just have found as well that it is unused.
// It is given back with the keys.
func (s backends) reserve(ctx context.Context, simulation string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	reserved, err := s.store.Reserve(ctx, rand.Text())
	if err == nil && !reserved {
		err = badInput(fmt.Errorf("--simulation: another process has just begun %q on %s: choose another name", simulation, s.store.Address))
	}
	return err
}

// remove removes the simulation from servers that outlive this process.
func (s backends) remove(ctx context.Context, simulation string) error {
	var queues wiring.Queues
	var keys wiring.Keys
	if !s.broker.InMemory() {
		queues = s.broker
	}
	if !s.store.InMemory() {
		keys = s.store
	}
	return wiring.Remove(ctx, simulation, queues, keys)
}

func (s backends) close(log *slog.Logger) {
	closing(log, "the connections to RabbitMQ", s.broker)
	closing(log, "the connections to Redis", s.store)
}
