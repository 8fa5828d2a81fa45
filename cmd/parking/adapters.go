package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/purge"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// The timeouts are variables, so that tests on a busy machine can set longer timeouts.
var (
	// connectTimeout limits the time that a command waits at startup for the servers to respond.
	connectTimeout = 5 * time.Second
	// purgeTimeout limits the time for removing a simulation's queues or keys from one server. It also limits the time
	// for declaring the queues.
	purgeTimeout = 30 * time.Second
)

// adapters are the clients of the message broker and of the store that a plan refers to.
type adapters struct {
	broker *wiring.Broker
	store  *wiring.Store
	// brokerFlag and storeFlag name the flag, the environment variable or the field of the plan file that selects each
	// server.
	brokerFlag, storeFlag string
}

// openPlanAdapters opens the adapters for the servers that a plan file refers to. It does not connect to the
// servers.
func openPlanAdapters(p *plan.Plan, o wiring.Options) (adapters, error) {
	if err := wiring.RequireServers(p); err != nil {
		return adapters{}, badInput(err)
	}
	return openNamedAdapters(p, o, "rabbitmq", "redis")
}

// openAdapters opens the broker and the store, without connecting to servers. Each of them works in memory if the plan
// has no server for it.
func openAdapters(p *plan.Plan, o wiring.Options, f serverFlags) (adapters, error) {
	return openNamedAdapters(p, o, f.rabbitmqSource(), f.redisSource())
}

// openNamedAdapters opens the same adapters as openAdapters. Its errors begin with brokerFlag or storeFlag.
func openNamedAdapters(p *plan.Plan, o wiring.Options, brokerFlag, storeFlag string) (adapters, error) {
	b, err := wiring.OpenBroker(p, o)
	if err != nil {
		return adapters{}, badInput(fmt.Errorf("%s: %w", brokerFlag, err))
	}
	s, err := wiring.OpenStore(p, o)
	if err != nil {
		return adapters{}, badInput(errors.Join(fmt.Errorf("%s: %w", storeFlag, err), b.Close()))
	}
	return adapters{broker: b, store: s, brokerFlag: brokerFlag, storeFlag: storeFlag}, nil
}

// readyChecks returns the readiness checks of a process that needs both broker and store.
func (a adapters) readyChecks() []httpserver.Check {
	return []httpserver.Check{
		{Name: httpserver.CheckRabbitMQ, Check: func(ctx context.Context) error {
			if err := a.broker.Blocked(); err != nil {
				return err
			}
			return a.broker.CheckQueue(ctx)
		}},
		// Ping is not enough: a server that rejects writes still answers pings.
		{Name: httpserver.CheckRedis, Check: a.store.CheckWritable},
	}
}

// connect checks that RabbitMQ and Redis respond. Its error names the flag or field that selects the failed server.
func (a adapters) connect(ctx context.Context) error {
	return errors.Join(both(
		func() error { return a.reachBroker(ctx) },
		func() error { return a.reachStore(ctx) },
	))
}

// both runs a function for the broker and a function for the store concurrently, and returns both errors.
func both(forBroker, forStore func() error) (brokerErr, storeErr error) {
	var calls sync.WaitGroup
	calls.Go(func() { brokerErr = forBroker() })
	calls.Go(func() { storeErr = forStore() })
	calls.Wait()
	return brokerErr, storeErr
}

// reachBroker checks that RabbitMQ responds. Its error begins with brokerFlag.
func (a adapters) reachBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := a.broker.Check(ctx); err != nil {
		return fmt.Errorf("%s: %w", a.brokerFlag, err)
	}
	return nil
}

// reachStore checks that Redis responds. Its error begins with storeFlag.
func (a adapters) reachStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := a.store.Ping(ctx); err != nil {
		return fmt.Errorf("%s: %w", a.storeFlag, err)
	}
	return nil
}

func (a adapters) requireConnection(ctx context.Context) error {
	return badInputUnlessNotReady(a.connect(ctx))
}

// checkStore checks that the store permits all commands that a simulation needs. A missing permission is bad input, and
// full memory is a failure.
func (a adapters) checkStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err := a.store.Check(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrUnavailable):
		return fmt.Errorf("%s: %w", a.storeFlag, err)
	}
	return badInput(fmt.Errorf("%s: %w", a.storeFlag, err))
}

// checkUnused returns an error if a server already has queues or keys of a simulation with the given name.
func (a adapters) checkUnused(ctx context.Context, simulation string) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for _, server := range []struct {
		what, address string
		exists        func(context.Context) (bool, error)
	}{{"queues", a.broker.Address, a.broker.Exists}, {"keys", a.store.Address, a.store.Exists}} {
		switch exists, err := server.exists(ctx); {
		case err != nil:
			return err
		case exists:
			return badInput(fmt.Errorf("--simulation: %s already has %s of %q: choose another name, or remove them with 'parking purge --simulation %s'",
				server.address, server.what, simulation, simulation))
		}
	}
	return nil
}

// reserve makes sure that only one process gets the simulation's name. Purging the simulation removes the reservation.
func (a adapters) reserve(ctx context.Context, p *plan.Plan) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	reserved, err := a.store.Reserve(ctx, p.Owner)
	if err == nil && !reserved {
		err = badInput(fmt.Errorf("--simulation: another process has just started %q on %s: choose another name", p.Simulation, a.store.Address))
	}
	return err
}

// removeQueues deletes the queues of the simulation. If the plan has an owner, it keeps the queues of other owners, and
// returns an error about them. Otherwise, it deletes the queues of every owner.
func (a adapters) removeQueues(ctx context.Context, simulation string) error {
	if a.broker.InMemory() {
		return nil
	}
	foreign, err := purge.RemoveQueues(ctx, simulation, a.broker)
	return errors.Join(err, keptForeign(foreign, simulation))
}

// removeKeys deletes the keys of the simulation. If the plan has an owner, it keeps the keys of other owners, and
// returns an error about them. Otherwise, it deletes the keys of every owner.
func (a adapters) removeKeys(ctx context.Context, simulation string) error {
	if a.store.InMemory() {
		return nil
	}
	foreign, err := purge.RemoveKeys(ctx, simulation, a.store)
	return errors.Join(err, keptForeign(foreign, simulation))
}

// keptForeign returns an error that lists the queues or keys that a purge kept because they belong to another
// simulation. It returns nil if there are none.
func keptForeign(foreign purge.Foreign, simulation string) error {
	if foreign == (purge.Foreign{}) {
		return nil
	}
	return fmt.Errorf("%s of %s belong to another simulation of the same name and were not removed", foreign, simulation)
}

func (a adapters) close(log *slog.Logger) {
	closeAndLog(log, "connections to RabbitMQ", a.broker)
	closeAndLog(log, "connections to Redis", a.store)
}
