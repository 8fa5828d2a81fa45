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
runs, such an event is outstanding, the verdict is FAIL because nothing is proved yet, and the
numbers are those of a moment each: they need not add up.

The manifest must have as many partitions as the one that the simulation ran with. Without one
the defaults hold.

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
		Use:                   "audit {-f MANIFEST | --simulation NAME} --redis-uri URI [flags]",
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
	return cmd
}

// auditResult is what audit prints.
type auditResult struct {
	ledger.Verdict

	Simulation string        `json:"simulation"`
	Ledger     ledger.Report `json:"ledger"`
	// Running says that the ledger moved while it was read.
	Running bool `json:"running"`
	// Notes say what the audit could not see.
	Notes []string `json:"notes,omitempty"`
}

func (c *cli) audit(ctx context.Context, f auditFlags) error {
	f.servers.fromEnvironment(c.getenv)
	if f.manifest.path == "" && f.manifest.simulation == "" {
		return badInput(errors.New("say what to audit: name the simulation with --simulation or -f"))
	}
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
	p.RabbitMQ, p.Redis = plan.BindingRef{URI: f.servers.rabbitmq}, plan.BindingRef{URI: f.servers.redis}
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
	seen, err := lookTwice(ctx, s)
	if err != nil {
		return auditResult{}, err
	}
	report, err := ledger.Audit(ctx, s.store, ledger.Options{AtRest: seen.atRest()})
	if err != nil {
		return auditResult{}, err
	}
	if err := knows(p, s, report); err != nil {
		return auditResult{}, badInput(err)
	}
	result := auditResult{Simulation: p.Simulation, Ledger: report, Running: seen.moved}
	input := ledger.Input{
		Report: report, Objectives: p.Objectives, Depths: seen.depths,
		Running: seen.moved, InFlight: ledger.Unknown, // only the processors themselves know
	}
	if seen.depths.Dead > 0 {
		if input.DeadReasons, err = s.broker.DeadLetterReasons(ctx, ledger.NamedReasons); err != nil {
			return auditResult{}, fmt.Errorf("look into the dead letters: %w", err)
		}
	}
	result.Verdict = ledger.Judge(input)
	result.Notes = notes(p, s, seen)
	return result, nil
}

// knows refuses a report of another simulation than the plan's, or of a part of it.
func knows(p *plan.Plan, s backends, r ledger.Report) error {
	switch {
	case r.Partitions != 0 && r.Partitions != p.Partitions:
		return fmt.Errorf("spec.rabbitmq.partitions: the simulation %q on %s was begun with %d partitions, not %d: audit it with the manifest that it ran with, or one of as many",
			p.Simulation, s.store.Address, r.Partitions, p.Partitions)
	case r.Partitions == 0 && r.Runs == 0 && r.StrangerEntries+r.StrangerMatched+r.EntryNotFound == 0:
		return fmt.Errorf("%s knows no simulation %q: give its name with --simulation", s.store.Address, p.Simulation)
	}
	return nil
}

// notes say what the audit could not see.
func notes(p *plan.Plan, s backends, seen sight) (notes []string) {
	switch {
	case seen.moved:
		notes = append(notes, "the simulation is running: its numbers were read one after the other while they moved, and need not add up")
	case s.broker.InMemory():
		notes = append(notes, "without --rabbitmq-uri the queues were not looked into; what waits there counts as lost")
	}
	if p.Objectives.ProcessingP99 > 0 || p.Objectives.EndToEndP99 > 0 {
		notes = append(notes, "latency objectives are not part of an audit: the ledger holds no latencies")
	}
	return notes
}

// sight is what two looks at a simulation show.
type sight struct {
	depths broker.Depths
	// moved says that they differ, held that processors hold something.
	moved, held bool
}

// atRest reports whether nothing is under way, as far as can be known.
func (s sight) atRest() bool {
	return !s.moved && !s.held && max(s.depths.Ready, 0)+max(s.depths.Retry, 0) == 0
}

// lookTwice compares two looks at the simulation.
func lookTwice(ctx context.Context, s backends) (sight, error) {
	auditor := ledger.NewAuditor(s.store)
	before, err := auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return sight{}, err
	}
	select {
	case <-time.After(standstill):
	case <-ctx.Done():
		return sight{}, ctx.Err()
	}
	depths, err := queued(ctx, s)
	if err != nil {
		return sight{}, err
	}
	after, err := auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return sight{}, err
	}
	// Nobody tells how much processors hold. While summaries wait for their API they do hold something, so
	// that an event without effect is then not known to be lost.
	return sight{depths: depths, moved: !reflect.DeepEqual(before, after), held: after.Outbox > 0 && after.Outstanding > 0}, nil
}

// queued counts the messages in the queues.
func queued(ctx context.Context, s backends) (broker.Depths, error) {
	if s.broker.InMemory() {
		return broker.Depths{Ready: ledger.Unknown, Retry: ledger.Unknown}, nil
	}
	depths, err := s.broker.Depths(ctx)
	if err != nil {
		return broker.Depths{}, fmt.Errorf("count the messages in the queues: %w", err)
	}
	return depths, nil
}
