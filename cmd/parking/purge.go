package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const purgeHelp = `purge removes what a simulation has on servers: its exchange and queues with the messages in
them from RabbitMQ, and its keys, the ledger among them, from Redis. Servers that are not named
are left alone.

It is for what 'parking simulate --keep' kept and what a simulation left that was killed. End
the simulation first: generators and processors that still run make their queues and keys anew.

Exit codes: 0 nothing is left there; 1 something may be left; 2 bad input.`

const purgeExamples = `  # by the name that 'parking simulate' printed
  parking purge --simulation default.rush-hour-4f7k2a \
      --rabbitmq-uri amqp://user:password@127.0.0.1:5672 --redis-uri redis://127.0.0.1:6379

  # that of a manifest, where its own name is the simulation's
  parking purge -f rush-hour.yaml --redis-uri redis://127.0.0.1:6379`

// purgeFlags are the flags of purge.
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
		Short:                 "Remove the queues and keys that a simulation left on servers",
		Long:                  purgeHelp,
		Example:               purgeExamples,
		GroupID:               groupWhole,
		RunE:                  runs(func(ctx context.Context) error { return c.purge(ctx, f) }),
	}
	f.manifest.register(cmd)
	f.servers.register(cmd)
	cmd.Flags().Var(&f.level, "log-level", "least important messages to log: debug, info, warn or error")
	return cmd
}

// plan returns the plan of whatever may be left of the simulation: the one of most partitions.
func (f *purgeFlags) plan() (*plan.Plan, error) {
	if f.manifest.path == "" && f.manifest.simulation == "" {
		return nil, errors.New("say what to remove: name the simulation with --simulation or -f")
	}
	if !f.servers.any() {
		return nil, errors.New("say from where to remove it: name servers with --rabbitmq-uri and --redis-uri, or set " + envRabbitMQ + " and " + envRedis)
	}
	manifest, err := f.manifest.read()
	if err != nil {
		return nil, err
	}
	p, err := f.manifest.plan(manifest)
	if err != nil {
		return nil, err
	}
	p.Partitions = plan.MaxPartitions
	p.RabbitMQ, p.Redis = plan.BindingRef{URI: f.servers.rabbitmq}, plan.BindingRef{URI: f.servers.redis}
	return p, p.Validate()
}

func (c *cli) purge(ctx context.Context, f purgeFlags) error {
	f.servers.fromEnvironment(c.getenv)
	p, err := f.plan()
	if err != nil {
		return badInput(err)
	}
	log := c.logger(f.level.Level)
	servers, err := open(p, wiring.Options{Component: "parking purge", Logger: log})
	if err != nil {
		return err
	}
	defer servers.close(log)
	if err := servers.reach(ctx); err != nil {
		return badInput(err)
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	queues, err := servers.broker.Exists(ctx)
	if err != nil {
		return err
	}
	keys, err := servers.store.Exists(ctx)
	if err != nil {
		return err
	}
	// Also what is not found is removed: a removal that was interrupted may have left a rest.
	if err := servers.remove(ctx, p.Simulation); err != nil {
		return err
	}
	var lines []string
	for _, server := range []struct {
		what, address string
		found         bool
	}{{"exchange and queues", servers.broker.Address, queues}, {"keys", servers.store.Address, keys}} {
		switch {
		case server.address == wiring.InMemory:
		case server.found:
			lines = append(lines, fmt.Sprintf("removed %s of %s from %s", server.what, p.Simulation, server.address))
		default:
			lines = append(lines, fmt.Sprintf("no %s of %s on %s", server.what, p.Simulation, server.address))
		}
	}
	return c.print(lines)
}
