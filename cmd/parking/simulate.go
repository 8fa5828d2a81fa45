package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/flagvalue"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/summary/client"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

const simulateHelp = `Run a whole simulation in this process, without a cluster: generators, a processor, the
summary API and the audit. Show the progress, then the ledger and the verdict.

The broker and the store are in memory, unless flags select real servers. --servers private starts
a RabbitMQ and a Redis from installed packages, for this run only.

The faults of the manifest are injected here, too: docs/rehearsals.md says how. A fault cannot
target a server that a flag selects.

While it runs, the --http address serves a live page with charts. --open opens it in a browser.

The manifest is a ParkingSimulation, as for a cluster. Omitted fields have their defaults.
Some fields have no effect here:
  - rabbitmq, redis and summaryAPI, except partitions, queueType and durability: flags select
    the servers. durability has no effect if the store is in memory.
  - replicas of a component that no fault targets, unless it is 0: one generator of each type and
    one processor do all the work.

On servers, each simulation has its own name, and its queues and keys are removed at the end.
If --simulation sets the name, the servers must not have queues or keys of that name yet.

Ctrl-C, SIGTERM or SIGHUP stops the generators. The simulation then finishes its current work
and prints the verdict. A second signal ends the process at once. The process then prints what is
left on servers, and how to remove it with 'parking purge'.

--report writes a report of the run to a file. The suffix selects the format: .html is a page with
charts, .md is Markdown, .xml is JUnit, and .json is a record for 'parking report' and 'parking compare'.

With --output json, stdout is one JSON object. It is empty if the simulation did not start or a
second signal ended it. The field "ledger" is null if the ledger cannot be read. docs/cli.md
lists all fields.

Exit codes:
  0    the verdict is PASS
  1    the verdict is FAIL, or something failed
  2    invalid input
  130  interrupted by Ctrl-C before the verdict (in general, 128 plus the signal number)`

const simulateExamples = `  # Run the defaults in memory for 30 seconds
  parking simulate --duration 30s

  # Run a manifest on real servers, with passwords in the environment
  export PARKING_RABBITMQ_URI=amqp://user:password@127.0.0.1:5672/
  export PARKING_REDIS_URI=redis://:password@127.0.0.1:6379/0
  parking simulate -f rush-hour.yaml --duration 5m

  # Rehearse crashes of a real RabbitMQ and a real Redis, which are started for this run
  parking simulate -f rehearsal.yaml --servers private

  # Record the run, and a page with charts
  parking simulate --duration 1m --report run.json --report run.html

  # Print the result as JSON; the exit code shows the verdict
  parking simulate -f rush-hour.yaml --duration 1m --output json | jq .ledger`

type simulateFlags struct {
	manifest      manifestFlags
	servers       serverFlags
	private       privateFlag
	output        outputFormat
	duration      flagvalue.Duration
	endless       bool
	drainTimeout  flagvalue.Duration
	drainChosen   bool
	http          string
	httpChosen    bool
	seed          int64
	seedChosen    bool
	summaryURL    string
	summarySecret string
	summariesDB   string
	keep          bool
	open          bool
	reports       reportFiles
	level         logLevel
	pprof         bool
}

func (c *cli) simulateCommand() *cobra.Command {
	f := simulateFlags{output: outputTable, level: logLevel{slog.LevelWarn}}
	cmd := &cobra.Command{
		Use:                   "simulate [-f MANIFEST] [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Run a whole simulation in this process and print its verdict",
		Long:                  simulateHelp,
		Example:               simulateExamples,
		GroupID:               groupSimulations,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.httpChosen, f.seedChosen, f.endless = cmd.Flags().Changed("http"), cmd.Flags().Changed("seed"), !cmd.Flags().Changed("duration")
		f.drainChosen = cmd.Flags().Changed("drain-timeout")
		return runs(func(ctx context.Context) error { return c.simulate(ctx, f) })(cmd, args)
	}
	f.manifest.register(cmd)
	f.servers.register(cmd)
	cmd.Flags().Var(&f.private, flagServers, "start a RabbitMQ and a Redis from installed packages, for this run only")
	flags := cmd.Flags()
	flags.Var(&f.output, "output", "output format: table or json")
	flags.Var(&f.duration, "duration", "how long to publish events (default: the duration of the manifest, otherwise until Ctrl-C)")
	flags.Var(&f.drainTimeout, "drain-timeout", "maximum time from the last due event until all events are processed and audited (default: drainTimeout of the manifest, or 5m)")
	flags.StringVar(&f.http, "http", defaultSimulateHTTP, "`address` for the live page, /metrics and the summary API; \"\" for none. If the default port is in use, a free one is used")
	flags.BoolVar(&f.open, "open", false, "open the live page in a browser")
	flags.Int64Var(&f.seed, "seed", 0, "`number` that determines the plates and all random draws (default: the seed of the manifest)")
	flags.StringVar(&f.summaryURL, "summary-url", "", "`URL` of an external API to post summaries to, one JSON object per request. It must answer HEAD requests")
	flags.StringVar(&f.summarySecret, "summary-secret", "", "`directory` with files for --summary-url: token, or username and password; ca.crt, tls.crt, tls.key")
	flags.StringVar(&f.summariesDB, "summaries-db", "", "store summaries in this SQLite `file` (default: in memory)")
	flags.BoolVar(&f.keep, "keep", false, "keep queues and keys on the servers, for 'parking audit'")
	flags.Var(&f.reports, "report", "write the report to this `file`, which ends in .html, .json, .md or .xml. May be repeated")
	_ = cmd.MarkFlagFilename("report", "html", "json", "md", "xml") // cannot fail, because the flag exists
	flags.Var(&f.level, "log-level", "minimum level of log messages: debug, info, warn or error")
	flags.BoolVar(&f.pprof, "pprof", false, "also serve profiles of this process under /debug/pprof/")
	return cmd
}

// defaultSimulateHTTP is the default address for HTTP. If its port is in use, 'parking simulate' listens on a free port
// instead.
const defaultSimulateHTTP = "127.0.0.1:8080"

// plan derives the plan from the manifest and the flags. It also returns notes and warnings for the user.
func (f *simulateFlags) plan(ctx context.Context) (resolved *manifest.Resolved, notes []string, err error) {
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	sim, err := f.manifest.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := f.checkFaults(manifest.FaultsOf(&sim.Spec)); err != nil {
		return nil, nil, err
	}
	notes = f.override(sim)
	resolved, err = f.manifest.resolve(ctx, sim)
	if err != nil {
		return nil, nil, err
	}
	p := resolved.Plan
	p.StartTime = time.Time{}
	// With --servers private, these URIs are set again after the servers have started.
	p.RabbitMQ, p.Redis = f.servers.rabbitmq, f.servers.redis
	p.SummaryAPI = plan.SummaryAPI{URL: f.summaryURL, External: f.summaryURL != "", SecretDir: f.summarySecret}
	if f.manifest.simulation == "" && f.servers.any() {
		// Make the name unique, so that the ledger does not count events of an earlier simulation.
		p.Simulation += "-" + event.NewRun()[:6]
	}
	if err := errors.Join(p.Validate(), f.checkTargets(p)); err != nil {
		return nil, nil, err
	}
	return resolved, append(notes, resolved.Warnings...), nil
}

// check returns an error for an invalid flag or an invalid combination of flags.
func (f *simulateFlags) check() error {
	switch {
	case f.duration.Duration <= 0 && !f.endless:
		return fmt.Errorf("--duration: must be above 0s, got %s; omit it to run until Ctrl-C", f.duration)
	case f.drainTimeout.Duration <= 0 && f.drainChosen:
		return fmt.Errorf("--drain-timeout: must be above 0s, got %s", f.drainTimeout)
	case f.seedChosen && f.seed < 0:
		return fmt.Errorf("--seed: must not be negative, got %d", f.seed)
	case f.open && f.http == "":
		return errors.New("--open: there is no live page, because --http is empty: omit --http, or give it an address")
	case f.private != "" && f.servers.any():
		return errors.New("--servers: private servers cannot be combined with servers that other flags select: remove --servers or the other flags")
	case f.keep && !f.servers.any():
		return errors.New("--keep: a simulation in memory cannot be kept: select servers with --rabbitmq-uri and --redis-uri")
	}
	if err := errors.Join(f.servers.check(), f.reports.check(string(f.manifest.path))); err != nil {
		return err
	}
	return f.checkSummaries()
}

func (f *simulateFlags) checkSummaries() error {
	switch {
	case f.summaryURL != "" && f.summariesDB != "":
		return errors.New("--summary-url and --summaries-db cannot be combined: remove one of them")
	case f.summarySecret != "" && f.summaryURL == "":
		return errors.New("--summary-secret: requires --summary-url, the URL of the API")
	}
	if err := f.checkSummaryURL(); err != nil {
		return fmt.Errorf("--summary-url: %w", err)
	}
	if err := (client.Config{SecretDir: f.summarySecret}).CheckSecret(); err != nil {
		return fmt.Errorf("--summary-secret: %w", err)
	}
	return nil
}

// checkSummaryURL returns an error if the URL is invalid or contains credentials.
func (f *simulateFlags) checkSummaryURL() error {
	if f.summaryURL == "" {
		return nil
	}
	source, err := binding.URI(binding.HTTP(), f.summaryURL, "")
	if err != nil {
		return err
	}
	address, err := source()
	if err == nil && address.URI.User != nil {
		err = errors.New("must not contain a user name or password: put the credentials into the files username and password of a directory, and name the directory with --summary-secret")
	}
	return err
}

// checkFaults returns an error if --duration ends the simulation before the last fault of the manifest ends.
func (f *simulateFlags) checkFaults(faults []plan.Fault) error {
	var last string
	var end time.Duration
	for i := range faults {
		fault := &faults[i]
		if t := fault.LatestEnd(); t > end {
			last, end = fault.Name, t
		}
	}
	if f.duration.Duration == 0 || f.duration.Duration > end {
		return nil
	}
	return fmt.Errorf("--duration: %s is too short: fault %q of the manifest ends %s after the start: raise --duration to %s, omit the flag, or remove the fault",
		f.duration, last, field.Duration(end), field.Duration(end+2*plan.SteadyTime))
}

// override applies the flags to the manifest. It returns a note for each overridden or ignored field, and for
// spec.suspend if it is true.
func (f *simulateFlags) override(sim *v1alpha1.ParkingSimulation) (notes []string) {
	spec := &sim.Spec
	if f.duration.Duration > 0 {
		if before := spec.Duration; before != nil && before.Value() != f.duration.Duration {
			notes = append(notes, fmt.Sprintf("--duration %s replaces the manifest's duration, %s", f.duration, *before))
		}
		spec.Duration = durationOf(f.duration)
	}
	if f.drainChosen {
		if before := spec.DrainTimeout; before != nil && before.Value() != f.drainTimeout.Duration {
			notes = append(notes, fmt.Sprintf("--drain-timeout %s replaces the manifest's drainTimeout, %s", f.drainTimeout, *before))
		}
		spec.DrainTimeout = durationOf(f.drainTimeout)
	}
	if f.seedChosen {
		if before := spec.Seed; before != nil && *before != f.seed {
			notes = append(notes, fmt.Sprintf("--seed %d replaces the manifest's seed, %d", f.seed, *before))
		}
		spec.Seed = &f.seed
	}
	if spec.Suspend {
		notes = append(notes, "spec.suspend is true: no events will be published")
	}
	return append(notes, f.ignore(spec)...)
}

// ignore returns a note for each ignored field of the spec. It resets spec.redis.durability for a store in memory.
func (f *simulateFlags) ignore(spec *v1alpha1.ParkingSimulationSpec) (notes []string) {
	broker := f.used("the broker", f.servers.hasRabbitMQ(), f.servers.rabbitmqSource())
	inMemory := f.private == "" && !f.servers.hasRedis()
	store := f.used("the store", f.servers.hasRedis(), f.servers.redisSource())
	api := "summaries are stored in memory, unless --summary-url selects an API"
	switch {
	case f.summaryURL != "":
		api = "--summary-url selects the API"
	case f.summariesDB != "":
		api = "--summaries-db selects a file for the summaries"
	}
	for _, ignored := range []struct {
		field   string
		given   bool
		instead string
	}{
		{"spec.rabbitmq.clusterRef", spec.RabbitMQ.ClusterRef != nil, broker},
		{"spec.rabbitmq.secretRef", spec.RabbitMQ.SecretRef != nil, broker},
		{"spec.redis.secretRef", spec.Redis.SecretRef != nil, store},
		{"spec.redis.durability", inMemory && spec.Redis.Durability == v1alpha1.DurabilitySynced, store},
		{"spec.summaryAPI.url", spec.SummaryAPI.URL != "", api},
	} {
		if ignored.given {
			notes = append(notes, ignored.field+" has no effect here: "+ignored.instead)
		}
	}
	if inMemory {
		spec.Redis.Durability = v1alpha1.DurabilityWritten
	}
	return notes
}

// durationOf converts the value of a duration flag to the type that a spec uses. It keeps the user's text if the text
// is valid in a spec.
func durationOf(flag flagvalue.Duration) *v1alpha1.Duration {
	if d := v1alpha1.Duration(flag.String()); d.Value() == flag.Duration {
		return &d
	}
	return v1alpha1.NewDuration(flag.Duration)
}

// used returns a text that names the flag or the environment variable that selects, or could select, a server.
func (f *simulateFlags) used(what string, isSelected bool, source string) string {
	switch {
	case f.private != "":
		return "--" + flagServers + " private starts " + what
	case isSelected:
		return source + " selects " + what
	}
	return what + " is in memory, unless " + source + " selects a server"
}

func (c *cli) simulate(ctx context.Context, f simulateFlags) error {
	if f.private == "" {
		f.servers.fromEnvironment(c.getenv)
	}
	resolved, notes, err := f.plan(ctx)
	if err != nil {
		return badInput(err)
	}
	progress := newProgressView(c.stderr, resolved.Plan)
	log := c.loggerTo(progress, f.level.Level)
	session, err := openSession(ctx, f, resolved, progress, log)
	if err != nil {
		return err
	}
	defer session.close(log)
	c.beforeExit.set(func() {
		progress.end()
		c.printError(session.abandon())
	})
	defer c.beforeExit.set(nil)
	if err := session.declare(ctx); err != nil {
		return err
	}
	progress.begin(session.describe(), notes)
	environment := session.adapters.environment(ctx, resolved.Simulation, log)
	document := report.New(session.run(ctx, progress), environment, nil)
	progress.end()
	err = c.printResult(f.output, &document)
	if len(f.reports) > 0 {
		document.Timeline = session.adapters.readTimeline(ctx, log)
		err = errors.Join(err, f.reports.write(&document))
	}
	if f.keep {
		_, _ = fmt.Fprintln(c.stderr, session.kept()) // a failed write to stderr cannot be reported
	} else if left := session.purge(ctx); left != nil {
		return errors.Join(err, left)
	}
	if err == nil && document.Outcome != ledger.Pass {
		err = errVerdict
	}
	return err
}

// printResult prints a report without its timeline.
func (c *cli) printResult(format outputFormat, r *report.Document) error {
	if format == outputJSON {
		return printJSON(c.stdout, r)
	}
	return c.print(reportTable(r, newTable(c.stdout)))
}

func (c *cli) print(lines []string) error {
	_, err := c.stdout.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}

func printJSON(w io.Writer, v any) error {
	// Encode writes the whole document with one call of Write, so no character is split between two calls.
	encoder := json.NewEncoder(terminal.CleanWriter(w))
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// outputFormat is a flag value: the output format of a result.
type outputFormat string

const (
	outputTable outputFormat = "table"
	outputJSON  outputFormat = "json"
)

// String implements pflag.Value.
func (o *outputFormat) String() string { return string(*o) }

// Set implements pflag.Value.
func (o *outputFormat) Set(s string) error {
	switch outputFormat(s) {
	case outputTable, outputJSON:
		*o = outputFormat(s)
		return nil
	}
	return errors.New("must be table or json")
}

// values returns the valid values, for completion in shells.
func (*outputFormat) values() []string { return []string{string(outputTable), string(outputJSON)} }

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (o *outputFormat) Type() string { return "format" }

// manifestFlags are the flags that select the manifest and the name of the simulation.
type manifestFlags struct {
	path       manifestPath
	simulation string
}

func (f *manifestFlags) register(cmd *cobra.Command) {
	f.registerFile(cmd)
	f.registerName(cmd)
}

func (f *manifestFlags) registerFile(cmd *cobra.Command) {
	cmd.Flags().VarP(&f.path, "filename", "f", "`file` with a ParkingSimulation in YAML or JSON; - for stdin")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json") // cannot fail, because the flag exists
}

func (f *manifestFlags) registerName(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.simulation, "simulation", "", "`name` of the simulation on servers (default: NAMESPACE.NAME of the manifest; simulate adds a random suffix)")
}

// manifestPath is a flag value: the path of a manifest. The flag cannot be repeated.
type manifestPath string

// String implements pflag.Value.
func (p *manifestPath) String() string { return string(*p) }

// Set implements pflag.Value.
func (p *manifestPath) Set(path string) error {
	switch {
	case path == "":
		return errors.New("must be a file, or - for stdin")
	case *p != "":
		return fmt.Errorf("is a second manifest after %s: only one is allowed", quote(string(*p)))
	}
	*p = manifestPath(path)
	return nil
}

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (p *manifestPath) Type() string { return "file" }

// read reads the manifest. If no flag selects a file, it returns a manifest with an empty spec.
func (f *manifestFlags) read(ctx context.Context) (*v1alpha1.ParkingSimulation, error) {
	if f.path == "" {
		return &v1alpha1.ParkingSimulation{
			TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind},
			ObjectMeta: metav1.ObjectMeta{Name: "simulation"},
		}, nil
	}
	return interruptible(ctx, func() (*v1alpha1.ParkingSimulation, error) {
		if f.path == "-" {
			return manifest.Read(os.Stdin)
		}
		return manifest.ReadFile(string(f.path))
	})
}

// resolve derives the plan from the manifest. The result also contains warnings about the manifest.
func (f *manifestFlags) resolve(ctx context.Context, sim *v1alpha1.ParkingSimulation) (*manifest.Resolved, error) {
	resolved, err := interruptible(ctx, func() (*manifest.Resolved, error) {
		resolved, faults := manifest.Resolve(sim)
		return resolved, faults.Err()
	})
	if err != nil {
		return nil, err
	}
	if f.simulation != "" {
		resolved.Plan.Simulation = f.simulation
		// Only the name given by --simulation can make the plan invalid.
		if err := resolved.Plan.Validate(); err != nil {
			return nil, fmt.Errorf("--simulation: %w", err)
		}
	}
	return resolved, nil
}
