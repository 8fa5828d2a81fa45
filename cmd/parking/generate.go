package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const generateHelp = `generate publishes the events of a simulation, on the schedule of its plan: an open model, in
which events are due when the schedule says so, whatever the speed of the broker.

Edits of the plan file take effect within a second: rates, stages, arrivals and the match
percentage change, and no event is lost or published twice.`

func (c *cli) generateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "generate",
		Short:   "Publish the entry events or the exit events of a simulation",
		Long:    generateHelp,
		GroupID: groupParts,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("say which events to generate: 'parking generate entry' or 'parking generate exit'")
		},
	}
	cmd.AddCommand(
		c.generateTypeCommand(event.TypeEntry, generator.NewEntry,
			"Publish the entry events of a simulation",
			`Each entry has a plate that is not parked. Once the broker has confirmed it, the plate is
available to the exit generators.`),
		c.generateTypeCommand(event.TypeExit, generator.NewExit,
			"Publish the exit events of a simulation",
			`A drawn share of the exits, exit.matchPercent of the plan, leaves with a plate that entered
at least exit.minStay ago. The others have plates that never entered. A draw that finds no
plate available is counted as starved and publishes nothing.`),
	)
	return cmd
}

// newGenerator is one of the constructors of package generator.
type newGenerator func(generator.Options) (*generator.Generator, error)

func (c *cli) generateTypeCommand(t event.Type, create newGenerator, short, long string) *cobra.Command {
	var flags serviceFlags
	var planPath string
	cmd := &cobra.Command{
		Use:                   string(t) + " --plan FILE [flags]",
		DisableFlagsInUseLine: true,
		Short:                 short,
		Long:                  short + ".\n\n" + long,
		Example:               fmt.Sprintf("  parking generate %s --plan /etc/parking/plan.json --http 127.0.0.1:8080", t),
		Args:                  cobra.NoArgs,
		RunE: runs(func(ctx context.Context) error {
			return c.generate(ctx, flags, planPath, create)
		}),
	}
	flags.register(cmd)
	planFlag(cmd, &planPath)
	return cmd
}

func (c *cli) generate(ctx context.Context, flags serviceFlags, planPath string, create newGenerator) error {
	if err := flags.check(); err != nil {
		return err
	}
	p, err := readPlan(planPath)
	if err != nil {
		return err
	}
	s := service{flags: flags, log: c.logger(flags.level.Level), registry: newRegistry()}
	servers, err := openServers(p, wiring.Options{Component: "parking generate", Logger: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	defer servers.close(s.log)
	s.log.Info("starting", "version", currentBuild().version, "simulation", p.Simulation,
		"rabbitmq", servers.broker.Address, "redis", servers.store.Address)
	g, err := create(generator.Options{
		Plan:            p,
		Publisher:       servers.broker,
		Store:           servers.store,
		Logger:          s.log,
		Registerer:      s.registry,
		ShutdownTimeout: flags.workTime(),
	})
	if err != nil {
		return err
	}
	s.ready = servers.ready()
	s.work = func(ctx context.Context) error {
		defer watch(ctx, planPath, p, s.log, g.Update)()
		err := g.Run(ctx)
		done := g.Stats()
		s.log.Info("the generator has stopped", "type", done.Type, "run", done.Run,
			"published", done.Published, "confirmed", done.Confirmed, "starved", done.Starved)
		return err
	}
	return s.run(ctx)
}

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
	return open(p, o)
}

// open opens broker and store, in memory where the plan names none.
func open(p *plan.Plan, o wiring.Options) (backends, error) {
	b, err := wiring.OpenBroker(p, o)
	if err != nil {
		return backends{}, badInput(err)
	}
	s, err := wiring.OpenStore(p, o)
	if err != nil {
		return backends{}, badInput(errors.Join(err, b.Close()))
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

func (s backends) close(log *slog.Logger) {
	closing(log, "the connections to RabbitMQ", s.broker)
	closing(log, "the connections to Redis", s.store)
}
