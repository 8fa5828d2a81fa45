package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const processHelp = `process consumes the entry and exit queues of a simulation: it records each entry, matches
each exit with its entry, and posts a summary of the finished visit to the summary API.
Every event takes effect exactly once, however often it is delivered.

Any number of processors share the queues. On SIGTERM a processor stops consuming, finishes
what it holds, settles it, and leaves. Faults of Redis or of the API are waited out.`

func (c *cli) processCommand() *cobra.Command {
	var flags serviceFlags
	var planPath string
	cmd := &cobra.Command{
		Use:                   "process --plan FILE [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Process the events of a simulation",
		Long:                  processHelp,
		Example:               "  parking process --plan /etc/parking/plan.json --http 127.0.0.1:8081",
		GroupID:               groupParts,
		Args:                  cobra.NoArgs,
		RunE:                  runs(func(ctx context.Context) error { return c.process(ctx, flags, planPath) }),
	}
	flags.register(cmd)
	planFlag(cmd, &planPath)
	return cmd
}

func (c *cli) process(ctx context.Context, flags serviceFlags, planPath string) error {
	if err := flags.check(); err != nil {
		return err
	}
	p, err := readPlan(planPath)
	if err != nil {
		return err
	}
	s := service{flags: flags, log: c.logger(flags.level.Level), registry: newRegistry()}
	servers, err := openServers(p, wiring.Options{Component: "parking process", Logger: s.log, Registerer: s.registry})
	if err != nil {
		return err
	}
	defer servers.close(s.log)
	s.log.Info("starting", "version", currentBuild().version, "simulation", p.Simulation,
		"rabbitmq", servers.broker.Address, "redis", servers.store.Address)
	poster, _, err := wiring.OpenPoster(p)
	if err != nil {
		return badInput(err)
	}
	defer closing(s.log, "the client of the summary API", poster)
	entries := processor.NewEntryEventProcessor(servers.store, p.Partitions, p.MaxStay.D(), s.log)
	work, err := processor.New(
		processor.Config{Partitions: p.Partitions, Concurrency: p.Processor.Concurrency, DrainTimeout: flags.workTime()},
		processor.Dependencies{
			Consumer:    servers.broker,
			Entries:     entries,
			Exits:       processor.NewExitEventProcessor(servers.store, poster, p.Partitions, s.log),
			DeadLetters: servers.store,
			Durability:  servers.store,
			Registerer:  s.registry,
			Logger:      s.log,
		})
	if err != nil {
		return err
	}
	s.ready = servers.ready()
	s.work = func(ctx context.Context) error {
		defer watch(ctx, planPath, p, s.log, func(next *plan.Plan) { entries.SetMaxStay(next.MaxStay.D()) })()
		err := work.Run(ctx)
		s.log.Info("the processor has stopped", "processed", work.Stats().Processed(), "in_flight", work.InFlight())
		return err
	}
	return s.run(ctx)
}
