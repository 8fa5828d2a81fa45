package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const purgeHelp = `Remove a simulation from servers: its exchange, its queues and their messages from RabbitMQ,
and its keys, including the ledger, from Redis. It changes only the servers that the flags or
environment variables select.

Use it after 'parking simulate --keep', or after a simulation was killed. Stop the simulation
first: running generators and processors create their queues and keys again.

Exit codes:
  0    no queue or key remains
  1    queues or keys may remain
  2    invalid input`

const purgeExamples = `  # Remove a simulation by the name that 'parking simulate' printed
  parking purge --simulation default.rush-hour-4f7k2a \
      --rabbitmq-uri amqp://user:password@127.0.0.1:5672 --redis-uri redis://127.0.0.1:6379

  # Remove the keys of a simulation that ran in a cluster. The manifest contains its namespace and name
  parking purge -f rush-hour.yaml --redis-uri redis://127.0.0.1:6379`

type purgeFlags struct {
	manifest manifestFlags
	servers  serverFlags
	level    logLevel
}

func (c *cli) purgeCommand() *cobra.Command {
	f := purgeFlags{level: logLevel{slog.LevelWarn}}
	cmd := &cobra.Command{
		Use:                   "purge {-f MANIFEST | --simulation NAME} [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Remove the queues and keys of a simulation from servers",
		Long:                  purgeHelp,
		Example:               purgeExamples,
		GroupID:               groupSimulations,
		RunE:                  runs(func(ctx context.Context) error { return c.purge(ctx, f) }),
	}
	f.manifest.register(cmd)
	f.servers.register(cmd)
	cmd.Flags().Var(&f.level, "log-level", "minimum level of log messages: debug, info, warn or error")
	return cmd
}

// plan returns a plan with the maximum number of partitions, so that the purge finds every partition.
func (f *purgeFlags) plan(ctx context.Context) (*plan.Plan, error) {
	if f.manifest.path == "" && f.manifest.simulation == "" {
		return nil, errors.New("the simulation to remove is missing: set --simulation or -f")
	}
	if !f.servers.any() {
		return nil, errors.New("name the servers with --rabbitmq-uri and --redis-uri, or " + envRabbitMQ + " and " + envRedis)
	}
	if err := f.servers.check(); err != nil {
		return nil, err
	}
	sim, err := f.manifest.read(ctx)
	if err != nil {
		return nil, err
	}
	resolved, err := f.manifest.resolve(ctx, sim)
	if err != nil {
		return nil, err
	}
	p := resolved.Plan
	p.Owner = "" // purge the data of every owner, even if the manifest contains a UID
	p.Partitions = plan.MaxPartitions
	p.RabbitMQ, p.Redis = f.servers.rabbitmq, f.servers.redis
	return p, p.Validate()
}

func (c *cli) purge(ctx context.Context, f purgeFlags) error {
	f.servers.fromEnvironment(c.getenv)
	p, err := f.plan(ctx)
	if err != nil {
		return badInput(err)
	}
	log := c.logger(f.level.Level)
	adapters, err := openAdapters(p, wiring.Options{Component: "parking purge", Logger: log}, f.servers)
	if err != nil {
		return err
	}
	defer adapters.close(log)
	lines, err := purgeServers(ctx, adapters, p.Simulation)
	if len(lines) > 0 {
		err = errors.Join(err, c.print(lines))
	}
	return err
}

// purgeServers removes a simulation from each server that responds, and returns a line for each removal.
func purgeServers(ctx context.Context, a adapters, simulation string) (lines []string, err error) {
	// Remove the queues first: a processor that still receives messages would create keys again.
	queues, queuesErr := purgeQueues(ctx, a, simulation)
	keys, keysErr := purgeKeys(ctx, a, simulation)
	lines = slices.DeleteFunc([]string{queues, keys}, func(line string) bool { return line == "" })
	return lines, errors.Join(queuesErr, keysErr)
}

// purgeQueues removes a simulation from RabbitMQ. It returns a line for the output, or "" if the broker is in memory.
func purgeQueues(ctx context.Context, a adapters, simulation string) (string, error) {
	if a.broker.InMemory() {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	if err := a.reachBroker(ctx); err != nil {
		return "", badInputUnlessNotReady(err)
	}
	found, err := a.broker.Exists(ctx)
	if err != nil {
		return "", err
	}
	// Remove queues even if Exists found nothing: an interrupted removal may have left objects that Exists does not
	// detect.
	if err := a.removeQueues(ctx, simulation); err != nil {
		return "", err
	}
	if left, err := a.broker.Exists(ctx); err != nil || left {
		return "", cmp.Or(err, fmt.Errorf("%s still has an exchange or queues with names that simulation %s uses, but with other settings: "+
			"delete the exchange and queues that the warnings above name, unless another program uses them", a.broker.Address, simulation))
	}
	return purged(found, "exchange and queues", simulation, a.broker.Address), nil
}

// purgeKeys removes a simulation from Redis. It returns a line for the output, or "" if the store is in memory.
func purgeKeys(ctx context.Context, a adapters, simulation string) (string, error) {
	if a.store.InMemory() {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	if err := a.reachStore(ctx); err != nil {
		return "", badInputUnlessNotReady(err)
	}
	found, err := a.store.Exists(ctx)
	if err != nil {
		return "", err
	}
	// Remove keys even if Exists found nothing: an interrupted removal can leave keys that Exists does not detect.
	if err := a.removeKeys(ctx, simulation); err != nil {
		return "", err
	}
	return purged(found, "keys", simulation, a.store.Address), nil
}

// purged says what was removed from a server.
func purged(found bool, what, simulation, address string) string {
	if !found {
		return fmt.Sprintf("nothing to remove: no %s of simulation %s on %s", what, simulation, address)
	}
	return fmt.Sprintf("removed %s of %s from %s", what, simulation, address)
}
