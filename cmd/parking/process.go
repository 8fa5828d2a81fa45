package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/backoff"
	"github.com/parking-operator/parking-operator/internal/outage"
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
		RunE:                  runs(func(ctx context.Context) error { return c.process(ctx, flags, planPath) }),
	}
	flags.register(cmd)
	planFlag(cmd, &planPath)
	return cmd
}

func (c *cli) process(ctx context.Context, flags serviceFlags, planPath string) error {
	s, err := c.openPlanned("parking process", flags, planPath)
	if err != nil {
		return err
	}
	defer s.close()
	p, servers := s.plan, s.servers
	poster, err := wiring.OpenPoster(p)
	if err != nil {
		return badInput(s.inPlan(err))
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
	s.work = func(ctx context.Context) error {
		go meetStore(ctx, servers.store, s.log)
		defer s.watch(ctx, plan.RoleProcessor, func(next *plan.Plan) { entries.SetMaxStay(next.MaxStay.D()) })()
		err := work.Run(ctx)
		s.log.Info("the processor has stopped", "processed", work.Stats().Processed(), "in_flight", work.InFlight())
		return err
	}
	return s.run(ctx)
}

// meetStore asks the store until it answers, so that one that does not is in the log before there is work for it.
func meetStore(ctx context.Context, s *wiring.Store, log *slog.Logger) {
	const part = "ping"
	outages := outage.New(log, "the store does not answer yet", "the store answers")
	pauses := backoff.Backoff{First: 100 * time.Millisecond, Last: 5 * time.Second}
	for {
		err := s.Ping(ctx)
		if err == nil {
			outages.Fine(part)
			return
		}
		if ctx.Err() != nil {
			return
		}
		outages.Fault(part, err)
		if pauses.Wait(ctx, 0) != nil {
			return
		}
	}
}
