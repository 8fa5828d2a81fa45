package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const auditHelp = `audit reads the ledger of a simulation and compares, event by event, what the broker
confirmed with what took effect. It changes nothing.

A simulation is at rest when its queues are empty and its ledger stands still. Then an event
that was confirmed but never took effect is lost, and audit names it. While the simulation
runs, such an event is outstanding, and the verdict is FAIL because nothing is proved yet.

With --rabbitmq-uri audit looks into the queues. Without it, a simulation whose ledger stands
still counts as at rest, and what still waits in a queue counts as lost.

Exit codes: 0 the verdict is PASS, 1 it is FAIL or something broke, 2 bad input.`

const auditExamples = `  # a simulation in a cluster, through forwarded ports
  parking audit -f rush-hour.yaml --redis-uri redis://:password@127.0.0.1:6379 \
      --rabbitmq-uri amqp://user:password@127.0.0.1:5672

  # what 'parking simulate --keep' left on the servers, under the name that it printed
  parking audit -f rush-hour.yaml --simulation default.rush-hour-4f7k2a --redis-uri redis://127.0.0.1:6379`

// standstill is how long the ledger has to stand still to be at rest.
const standstill = time.Second

// auditFlags are the flags of audit.
type auditFlags struct {
	manifest manifestFlags
	servers  serverFlags
	output   outputFormat
	level    logLevel
}

func (c *cli) auditCommand() *cobra.Command {
	f := auditFlags{output: outputTable, level: logLevel{slog.LevelWarn}}
	cmd := &cobra.Command{
		Use:                   "audit -f MANIFEST --redis-uri URI [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Read the ledger of a running or finished simulation and show its verdict",
		Long:                  auditHelp,
		Example:               auditExamples,
		GroupID:               groupWhole,
		Args:                  cobra.NoArgs,
		RunE:                  runs(func(ctx context.Context) error { return c.audit(ctx, f) }),
	}
	f.manifest.register(cmd)
	f.servers.register(cmd)
	cmd.Flags().Var(&f.output, "output", "how to print the result: table or json")
	cmd.Flags().Var(&f.level, "log-level", "least important messages to log: debug, info, warn or error")
	_ = cmd.MarkFlagRequired("filename") // fails only for a flag that does not exist
	return cmd
}

// auditResult is what audit prints.
type auditResult struct {
	ledger.Verdict

	Simulation string        `json:"simulation"`
	Ledger     ledger.Report `json:"ledger"`
	// Notes say what the audit could not see.
	Notes []string `json:"notes,omitempty"`
}

func (c *cli) audit(ctx context.Context, f auditFlags) error {
	f.servers.fromEnvironment(c.getenv)
	if f.servers.redis == "" {
		return badInput(errors.New("the ledger is in Redis: say where with --redis-uri, or set " + envRedis))
	}
	manifest, err := f.manifest.read()
	if err != nil {
		return badInput(err)
	}
	p, err := f.manifest.plan(manifest)
	if err != nil {
		return badInput(err)
	}
	p.RabbitMQ, p.Redis = plan.Endpoint{URI: f.servers.rabbitmq}, plan.Endpoint{URI: f.servers.redis}
	if err := p.Validate(); err != nil {
		return badInput(err)
	}
	log := c.logger(f.level.Level)
	servers, err := open(p, wiring.Options{Component: "parking audit", Logger: log})
	if err != nil {
		return err
	}
	defer servers.close(log)
	if err := servers.reach(ctx); err != nil {
		return badInput(err)
	}
	result, err := auditSimulation(ctx, p, servers)
	if err != nil {
		return err
	}
	if err := c.printAudit(f.output, result); err != nil {
		return err
	}
	if result.Outcome != ledger.Pass {
		return errVerdict
	}
	return nil
}

func (c *cli) printAudit(format outputFormat, r auditResult) error {
	if format == outputJSON {
		return printJSON(c.stdout, r)
	}
	return c.print(auditTable(r, newTable(c.stdout)))
}

// auditSimulation finds out whether the simulation is at rest, reads its ledger and judges it.
func auditSimulation(ctx context.Context, p *plan.Plan, s backends) (auditResult, error) {
	depths, atRest, err := looksAtRest(ctx, s)
	if err != nil {
		return auditResult{}, err
	}
	report, err := ledger.Audit(ctx, s.store, ledger.Options{AtRest: atRest})
	if err != nil {
		return auditResult{}, err
	}
	if report.Runs == 0 && report.StrangerEntries+report.StrangerMatched+report.EntryNotFound == 0 {
		return auditResult{}, badInput(fmt.Errorf("%s knows no simulation %q with %d partitions: give its name with --simulation", s.store.Address, p.Simulation, p.Partitions))
	}
	result := auditResult{Simulation: p.Simulation, Ledger: report}
	result.Verdict = ledger.Judge(ledger.Input{Report: report, Objectives: p.Objectives, Depths: depths})
	if s.broker.Address == wiring.InMemory {
		result.Notes = append(result.Notes, "without --rabbitmq-uri the queues were not looked into; what waits there counts as lost")
	}
	if p.Objectives.ProcessingP99 > 0 || p.Objectives.EndToEndP99 > 0 {
		result.Notes = append(result.Notes, "latency objectives are not part of an audit: the ledger holds no latencies")
	}
	return result, nil
}

// looksAtRest compares two looks at the simulation.
func looksAtRest(ctx context.Context, s backends) (broker.Depths, bool, error) {
	auditor := ledger.NewAuditor(s.store)
	before, err := auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return broker.Depths{}, false, err
	}
	select {
	case <-time.After(standstill):
	case <-ctx.Done():
		return broker.Depths{}, false, ctx.Err()
	}
	depths, err := s.broker.Depths(ctx)
	if err != nil {
		return broker.Depths{}, false, fmt.Errorf("count the messages in the queues: %w", err)
	}
	after, err := auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return broker.Depths{}, false, err
	}
	// Nobody tells how much processors hold. While summaries wait for their API they do hold something, so
	// that an event without effect is then not known to be lost.
	held := after.Outbox > 0 && after.Outstanding > 0
	still := reflect.DeepEqual(before, after)
	return depths, still && !held && depths.Ready+depths.Retry == 0, nil
}
