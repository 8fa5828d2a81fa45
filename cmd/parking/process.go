package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/backoff"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/live"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/processor"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const processHelp = `Process the events of a simulation: record each entry, match each exit with its entry, and
post a summary of each finished visit to the summary API.

Every event takes effect exactly once, however often it is delivered. Any number of
processors may share the queues.

While Redis or the summary API is down, the processor keeps its deliveries and retries. On
SIGTERM it stops consuming, finishes and settles the deliveries that it holds, and exits.

With --page it also serves the live page of the whole simulation at the given address. The page
is read-only. 'kubectl parking ui' connects to the page of a processor pod.`

func (c *cli) processCommand() *cobra.Command {
	var flags serviceFlags
	var planPath, page string
	cmd := &cobra.Command{
		Use:                   "process --plan FILE [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Process the events of a simulation",
		Long:                  processHelp,
		Example:               "  parking process --plan /etc/parking/plan.json --http 127.0.0.1:8081",
		GroupID:               groupComponents,
		RunE:                  runs(func(ctx context.Context) error { return c.process(ctx, flags, planPath, page) }),
	}
	flags.register(cmd)
	planFlag(cmd, &planPath)
	cmd.Flags().StringVar(&page, "page", "", "`address` for the live page, such as 127.0.0.1:8085 (default: no page)")
	return cmd
}

func (c *cli) process(ctx context.Context, flags serviceFlags, planPath, page string) error {
	s, err := c.openPlanned(ctx, "parking process", flags, planPath)
	if err != nil {
		return err
	}
	defer s.close()
	p, adapters := s.plan, s.adapters
	poster, err := wiring.OpenPoster(p)
	if err != nil {
		return badInput(s.inPlan(err))
	}
	defer closeAndLog(s.log, "summary API client", poster)
	entries := processor.NewEntryEventProcessor(adapters.store, p.Partitions, p.MaxStay.D(), s.log)
	work, err := processor.New(
		processor.Config{Partitions: p.Partitions, Concurrency: p.Processor.Concurrency, Latency: p.Durability.Latency(), DrainTimeout: flags.workTime()},
		processor.Dependencies{
			Consumer:    adapters.broker,
			Entries:     entries,
			Exits:       processor.NewExitEventProcessor(adapters.store, poster, p.Partitions, s.log),
			DeadLetters: adapters.store,
			Durability:  adapters.store,
			Registerer:  s.registry,
			Logger:      s.log,
		})
	if err != nil {
		return err
	}
	var queues polledQueues
	serve, err := s.livePage(ctx, page, live.Dependencies{Store: adapters.store, Plan: s.current.Load, Depths: queues.depths.Load})
	if err != nil {
		return err
	}
	s.work = func(ctx context.Context) error {
		go serve(ctx)
		go awaitStore(ctx, adapters.store)
		defer s.watch(ctx, plan.RoleProcessor, func(next *plan.Plan) { entries.SetMaxStay(next.MaxStay.D()) })()
		stop := s.record(ctx, "processor", func() timeline.Row {
			row := work.Totals()
			row.Gauges = queues.gauges()
			return row
		})
		defer stop()
		go queues.poll(ctx, adapters.broker)
		err := work.Run(ctx)
		s.log.Info("Processor stopped", "processed", work.Stats().Processed(), "in_flight", work.InFlight())
		return err
	}
	return s.run(ctx)
}

// pageInterval is the interval at which the live page is updated. It equals the interval of the timeline.
const pageInterval = time.Second

// pageConnections limits the open connections to a processor's live page, because a pod has little memory.
const pageConnections = 128

// livePage listens on an address. The returned function serves the live page there until ctx ends. An empty address
// disables the page.
func (s *planned) livePage(ctx context.Context, address string, d live.Dependencies) (serve func(context.Context), err error) {
	if address == "" {
		return func(context.Context) {}, nil
	}
	page := view.New(
		view.Config{Version: currentBuild().version, Interval: pageInterval},
		view.Dependencies{Source: live.New(d), Logger: s.log})
	server, err := httpserver.Listen(ctx, address, httpserver.Guard(nil, page), s.log)
	if err != nil {
		return nil, listenError(err, "choose another address with --page")
	}
	return func(ctx context.Context) {
		if err := server.WithConnections(pageConnections).Serve(ctx); err != nil {
			s.log.Warn("The live page is no longer served", "error", err)
		}
	}, nil
}

// pollTimeout is shorter than the interval of the polls, which is 1 s.
const pollTimeout = 900 * time.Millisecond

// polledQueues holds the queue depths from the latest poll, or nil if the poll failed.
type polledQueues struct{ depths atomic.Pointer[broker.Depths] }

// poll reads the queue depths from RabbitMQ once per second until ctx ends.
func (q *polledQueues) poll(ctx context.Context, b *wiring.Broker) {
	async.Every(ctx, time.Second, func() {
		polling, cancel := context.WithTimeout(ctx, pollTimeout)
		defer cancel()
		depths, err := b.Depths(polling)
		if err == nil {
			q.depths.Store(&depths)
		} else {
			q.depths.Store(nil)
		}
	})
}

// gauges returns the queue depths for a row of the timeline.
func (q *polledQueues) gauges() timeline.Gauges {
	d := q.depths.Load()
	if d == nil {
		return timeline.Gauges{}
	}
	return timeline.Gauges{Ready: &d.Ready, Retrying: &d.Retry, DeadLetters: &d.Dead}
}

// awaitStore waits until the store responds or ctx ends. Without its requests, an idle processor would not log an
// outage.
func awaitStore(ctx context.Context, s *wiring.Store) {
	retries := backoff.Backoff{First: 100 * time.Millisecond, Last: time.Second}
	for {
		if _, err := s.Mark(ctx, 0); err == nil || retries.Wait(ctx, 0) != nil {
			return
		}
	}
}
