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
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const auditHelp = `Read the ledger of a simulation, and compare event by event what the broker confirmed with
what took effect. Print the ledger, the latencies and the verdict. The audit changes nothing.

A simulation is at rest when its queues are empty and its ledger does not change. Then a
confirmed event that has not taken effect is lost, and the audit names it.

While the simulation runs, such an event may still take effect, so it counts as outstanding, not
as lost. The verdict is FAIL, because nothing is proved yet. The audit reads the numbers one after
the other, so they may not add up.

The manifest must have the same number of partitions as when the simulation started.

Without --rabbitmq-uri the audit cannot count the messages in the queues. It then assumes that
a simulation whose ledger does not change is at rest, and counts waiting events as lost.

The store does not contain all data of a run. PASS therefore says nothing about:
  - faults: whether they took place, the recovery from them, and the objectives withoutFaults
    and underFaults
  - whether the generators kept their schedules, and whether the run ended early or something
    failed, such as the drain timeout
  - whether the summary API still stores the summaries that it accepted
For maxLag and minAchievedPercent, the audit counts only the events that were due while a
generator ran. It lists these checks as not measured, and one of the reasons names them. 'parking
simulate' and 'kubectl parking report' show the verdict that includes them.

Exit codes:
  0    the verdict is PASS
  1    the verdict is FAIL, or something failed
  2    invalid input`

const auditExamples = `  # Audit a simulation in a cluster, through forwarded ports
  parking audit -f rush-hour.yaml --redis-uri redis://:password@127.0.0.1:6379 \
      --rabbitmq-uri amqp://user:password@127.0.0.1:5672

  # Audit a simulation after 'parking simulate --keep', by the name that it printed
  parking audit -f rush-hour.yaml --simulation default.rush-hour-4f7k2a --redis-uri redis://127.0.0.1:6379`

// observationInterval is the time between two reads of the ledger.
const observationInterval = time.Second

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
		Short:                 "Read the ledger of a running or finished simulation and print its verdict",
		Long:                  auditHelp,
		Example:               auditExamples,
		GroupID:               groupSimulations,
		RunE:                  runs(func(ctx context.Context) error { return c.audit(ctx, f) }),
	}
	f.manifest.register(cmd)
	f.servers.register(cmd)
	cmd.Flags().Var(&f.output, "output", "output format: table or json")
	cmd.Flags().Var(&f.level, "log-level", "minimum level of log messages: debug, info, warn or error")
	return cmd
}

type auditResult struct {
	ledger.Verdict

	Simulation string        `json:"simulation"`
	Ledger     ledger.Report `json:"ledger"`
	// LatencySeconds contains the latencies, computed from the recorded timeline.
	LatencySeconds report.Latencies `json:"latencySeconds"`
	// Running is true if the ledger changed during the audit, which means that the simulation is still running.
	Running bool `json:"running"`
	// Notes say why the result may be inaccurate.
	Notes []string `json:"notes,omitempty"`
}

func (c *cli) audit(ctx context.Context, f auditFlags) error {
	f.servers.fromEnvironment(c.getenv)
	if f.manifest.path == "" && f.manifest.simulation == "" {
		return badInput(errors.New("set --simulation or -f to select the simulation to audit"))
	}
	if !f.servers.hasRedis() {
		return badInput(errors.New("the ledger is in Redis: name the server with --redis-uri or " + envRedis))
	}
	if err := f.servers.check(); err != nil {
		return badInput(err)
	}
	sim, err := f.manifest.read(ctx)
	if err != nil {
		return badInput(err)
	}
	resolved, err := f.manifest.resolve(ctx, sim)
	if err != nil {
		return badInput(err)
	}
	p := resolved.Plan
	p.RabbitMQ, p.Redis = f.servers.rabbitmq, f.servers.redis
	if err := p.Validate(); err != nil {
		return badInput(err)
	}
	log := c.logger(f.level.Level)
	adapters, err := openAdapters(p, wiring.Options{Component: "parking audit", Logger: log}, f.servers)
	if err != nil {
		return err
	}
	defer adapters.close(log)
	if err := adapters.requireConnection(ctx); err != nil {
		return err
	}
	result, err := auditSimulation(ctx, p, adapters)
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

// auditSimulation checks whether the simulation is still processing events, reads its ledger and computes the
// verdict.
func auditSimulation(ctx context.Context, p *plan.Plan, a adapters) (auditResult, error) {
	seen, err := observe(ctx, a)
	if err != nil {
		return auditResult{}, err
	}
	account, err := ledger.Audit(ctx, a.store, ledger.Options{AtRest: seen.atRest()})
	if err != nil {
		return auditResult{}, err
	}
	if err := checkReport(p, a, account); err != nil {
		return auditResult{}, badInput(err)
	}
	rows, err := ledger.ReadTimeline(ctx, a.store)
	latencies := ledger.LatenciesOf(rows, err, &account)
	result := auditResult{
		Simulation: p.Simulation, Ledger: account, Running: seen.moved,
		LatencySeconds: report.LatenciesOf(latencies),
	}
	input := ledger.Evidence{
		Report: account, Objectives: p.Objectives, Planned: p.Faults, Depths: seen.depths,
		Running: seen.moved, InFlight: ledger.Unknown, // an audit cannot count events in flight
		Latencies: latencies, Timeline: rows, LedgerOnly: true,
	}
	if seen.depths.Dead > 0 {
		if input.DeadReasons, err = a.broker.DeadLetterReasons(ctx, ledger.MaxDeadReasons); err != nil {
			return auditResult{}, fmt.Errorf("read the reasons of dead letters: %w", err)
		}
	}
	result.Verdict = ledger.Evaluate(input)
	result.Notes = notes(a, seen)
	return result, nil
}

// checkReport returns an error if the store does not know the simulation, or if the simulation has a different
// number of partitions than the plan.
func checkReport(p *plan.Plan, a adapters, r ledger.Report) error {
	switch {
	case r.Partitions != 0 && r.Partitions != p.Partitions:
		return fmt.Errorf("spec.rabbitmq.partitions: the simulation %q on %s was started with %d partitions, not %d: use the manifest that it was started with",
			p.Simulation, a.store.Address, r.Partitions, p.Partitions)
	case r.Partitions == 0 && r.Runs == 0 && r.External() == 0:
		return fmt.Errorf("%s has no simulation %q: check the name given by --simulation or -f", a.store.Address, p.Simulation)
	}
	return nil
}

// notes returns the reasons why the result may be inaccurate.
func notes(a adapters, seen observation) (notes []string) {
	switch {
	case seen.moved:
		notes = append(notes, "the simulation is running: its numbers were read one after the other while they changed, so they may not add up")
	case a.broker.InMemory():
		notes = append(notes, "the queues were not checked, because --rabbitmq-uri is missing: events that wait there count as lost")
	}
	return notes
}

// observation is the result of reading the ledger, then the queues, and then the ledger again.
type observation struct {
	depths broker.Depths
	moved  bool // the ledger changed between the two reads, so the simulation is running
	held   bool // processors may hold events whose summaries the summary API has not accepted
}

// atRest reports whether all events seem to be processed: the ledger does not change, no messages are known to wait in
// queues, and processors hold no unfinished events.
func (o observation) atRest() bool {
	return !o.moved && !o.held && max(o.depths.Ready, 0)+max(o.depths.Retry, 0) == 0
}

// observe reads the ledger before and after the queues, to see whether the ledger changes.
func observe(ctx context.Context, a adapters) (observation, error) {
	auditor := ledger.NewAuditor(a.store)
	before, err := auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return observation{}, err
	}
	select {
	case <-time.After(observationInterval):
	case <-ctx.Done():
		return observation{}, ctx.Err()
	}
	depths, err := queueDepths(ctx, a)
	if err != nil {
		return observation{}, err
	}
	after, err := auditor.Audit(ctx, ledger.Options{})
	if err != nil {
		return observation{}, err
	}
	// While summaries wait for the summary API, processors hold unacknowledged events. An outstanding event is then not
	// necessarily lost.
	return observation{depths: depths, moved: !reflect.DeepEqual(before, after), held: after.Outbox > 0 && after.Outstanding > 0}, nil
}

func queueDepths(ctx context.Context, a adapters) (broker.Depths, error) {
	if a.broker.InMemory() {
		return broker.Depths{Ready: ledger.Unknown, Retry: ledger.Unknown}, nil
	}
	depths, err := a.broker.Depths(ctx)
	if err != nil {
		return broker.Depths{}, fmt.Errorf("count the messages in the queues: %w", err)
	}
	return depths, nil
}
