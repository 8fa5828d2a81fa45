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

// The timeouts are variables, so that tests can set longer ones for a busy machine.
var (
	// connectTimeout limits the time that a command waits at startup for the servers to respond.
	connectTimeout = 5 * time.Second
	// purgeTimeout limits how long the removal of a simulation's queues or keys from one server may take.
	purgeTimeout = 30 * time.Second
)

// adapters are the clients of the message broker and of the store that a plan refers to.
type adapters struct {
	broker *wiring.Broker
	store  *wiring.Store
	// brokerFlag and storeFlag are the names of the flags, of the environment variables, or of the fields of the plan file
	// that select the servers. Error messages begin with them.
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

// openAdapters opens the adapters for RabbitMQ and Redis. The adapter for a server that no flag selects works in
// memory. openAdapters does not connect to servers.
func openAdapters(p *plan.Plan, o wiring.Options, f serverFlags) (adapters, error) {
	return openNamedAdapters(p, o, f.rabbitmqSource(), f.redisSource())
}

// openNamedAdapters opens adapters as openAdapters does. Its errors begin with the name of the invalid flag or
// field.
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
		{Name: httpserver.CheckRedis, Check: a.store.CheckWritable}, // a ping is not enough, because a server that accepts no writes answers pings
	}
}

// connect checks that RabbitMQ and Redis respond. If a server does not respond, the error names the flag or the field
// that selects it, and says what the user can do.
func (a adapters) connect(ctx context.Context) error {
	return errors.Join(both(
		func() error { return a.reachBroker(ctx) },
		func() error { return a.reachStore(ctx) },
	))
}

// both calls two functions at the same time, and returns their errors.
func both(forBroker, forStore func() error) (brokerErr, storeErr error) {
	var calls sync.WaitGroup
	calls.Go(func() { brokerErr = forBroker() })
	calls.Go(func() { storeErr = forStore() })
	calls.Wait()
	return brokerErr, storeErr
}

// reachBroker checks that RabbitMQ responds. See connect.
func (a adapters) reachBroker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := a.broker.Check(ctx); err != nil {
		return fmt.Errorf("%s: %w", a.brokerFlag, err)
	}
	return nil
}

// reachStore checks that Redis responds. See connect.
func (a adapters) reachStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := a.store.Ping(ctx); err != nil {
		return fmt.Errorf("%s: %w", a.storeFlag, err)
	}
	return nil
}

// requireConnection calls connect and marks its error as bad input, unless a server was reached but cannot serve
// requests at the moment.
func (a adapters) requireConnection(ctx context.Context) error {
	return badInputUnlessNotReady(a.connect(ctx))
}

// checkStore checks that the store permits all commands that a simulation needs. If a permission is missing, the
// error is marked as bad input. If the server cannot execute commands for another reason, for example because its
// memory is full, the error is not marked.
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

// checkUnused returns an error if a server already has queues or keys of a simulation with this name.
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

// reserve reserves the name of the simulation in the store. If two processes start at the same time with the same
// name, only one of them gets the reservation. The reservation is one of the simulation's keys, so purging the
// simulation removes it.
func (a adapters) reserve(ctx context.Context, p *plan.Plan) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	reserved, err := a.store.Reserve(ctx, p.Owner)
	if err == nil && !reserved {
		err = badInput(fmt.Errorf("--simulation: another process has just started %q on %s: choose another name", p.Simulation, a.store.Address))
	}
	return err
}

// removeQueues deletes the simulation's queues, unless the broker works in memory. It leaves queues that belong to
// another owner, and returns an error that says so. If the plan has no owner, it removes the queues of any owner.
func (a adapters) removeQueues(ctx context.Context, simulation string) error {
	if a.broker.InMemory() {
		return nil
	}
	foreign, err := purge.RemoveQueues(ctx, simulation, a.broker)
	return errors.Join(err, keptForeign(foreign, simulation))
}

// removeKeys deletes the simulation's keys under the same conditions as removeQueues deletes queues.
func (a adapters) removeKeys(ctx context.Context, simulation string) error {
	if a.store.InMemory() {
		return nil
	}
	foreign, err := purge.RemoveKeys(ctx, simulation, a.store)
	return errors.Join(err, keptForeign(foreign, simulation))
}

// keptForeign returns an error that says what was not removed, or nil if everything was removed.
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
