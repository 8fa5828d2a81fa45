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
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/internal/summary/client"
)

const simulateHelp = `simulate runs a whole simulation in this process, without a cluster: generators, processors,
the summary API and the audit. Broker and store are in memory unless --rabbitmq-uri and
--redis-uri name real ones. It shows what happens while it happens, and ends with the ledger
and the verdict.

The manifest is the ParkingSimulation that a cluster would get; without one, and for each
field that it leaves out, the defaults hold. Of its rabbitmq, redis and summaryAPI only
partitions and queueType count here: servers are named by flags. Replicas count in a cluster
only: here one generator of each type does the work of all, and one processor.

On servers the simulation has a name of its own, and what it left there is removed at the end.
A name that servers know already, of --simulation, is refused, so that nobody else's queues
and keys are ever touched.

On Ctrl-C, SIGTERM or SIGHUP the generators stop, what is under way is finished, and the
verdict follows. A second one ends at once, and says what is left on the servers and how
'parking purge' removes it.

With --output json stdout is one object once the simulation has begun, unless a second signal
ends it; its "ledger" is null when the ledger cannot be read. docs/cli.md lists its fields.

Exit codes: 0 the verdict is PASS; 1 it is FAIL, or something broke; 2 bad input; 130 ended by
Ctrl-C before there was a verdict (128 and the number of the signal).`

const simulateExamples = `  # half a minute of the defaults, all in memory
  parking simulate --duration 30s

  # a manifest on real servers; URIs with passwords are better given in the environment
  export PARKING_RABBITMQ_URI=amqp://user:password@127.0.0.1:5672/
  export PARKING_REDIS_URI=redis://:password@127.0.0.1:6379/0
  parking simulate -f rush-hour.yaml --duration 5m

  # for scripts: one JSON object on stdout, the verdict in the exit code
  parking simulate -f rush-hour.yaml --duration 1m --output json | jq .ledger`

// simulateFlags are the flags of simulate.
type simulateFlags struct {
	manifest      manifestFlags
	servers       serverFlags
	output        outputFormat
	duration      time.Duration
	endless       bool
	drainTimeout  time.Duration
	http          string
	httpChosen    bool
	seed          int64
	seedChosen    bool
	summaryURL    string
	summarySecret string
	summariesDB   string
	keep          bool
	level         logLevel
	pprof         bool
}

func (c *cli) simulateCommand() *cobra.Command {
	f := simulateFlags{output: outputTable, level: logLevel{slog.LevelWarn}}
	cmd := &cobra.Command{
		Use:                   "simulate [-f MANIFEST] [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Run a whole simulation in this process and show its verdict",
		Long:                  simulateHelp,
		Example:               simulateExamples,
		GroupID:               groupWhole,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.httpChosen, f.seedChosen, f.endless = cmd.Flags().Changed("http"), cmd.Flags().Changed("seed"), !cmd.Flags().Changed("duration")
		return runs(func(ctx context.Context) error { return c.simulate(ctx, f) })(cmd, args)
	}
	f.manifest.register(cmd)
	f.servers.register(cmd)
	flags := cmd.Flags()
	flags.Var(&f.output, "output", "how to print the result: table or json")
	flags.DurationVar(&f.duration, "duration", 0, "how long to generate events (default: what the manifest says, else until Ctrl-C)")
	flags.DurationVar(&f.drainTimeout, "drain-timeout", simulate.DefaultDrainTimeout, "how long it may take at the end to process what is under way and to audit it")
	flags.StringVar(&f.http, "http", defaultSimulateHTTP, "`address` at which to serve /metrics and the summary API; \"\" for none; another port if the default one is taken")
	flags.Int64Var(&f.seed, "seed", 0, "draw other plates and draws than the manifest's seed does")
	flags.StringVar(&f.summaryURL, "summary-url", "", "post the summaries to this `URL`, an API of your own that answers HEAD, one JSON object at a time")
	flags.StringVar(&f.summarySecret, "summary-secret", "", "`folder` with the files token, or username and password, for --summary-url; and ca.crt")
	flags.StringVar(&f.summariesDB, "summaries-db", "", "keep the summaries in this SQLite `file` (default: a file that is removed at the end)")
	flags.BoolVar(&f.keep, "keep", false, "leave queues and keys on the servers for a later 'parking audit'")
	flags.Var(&f.level, "log-level", "least important messages to log: debug, info, warn or error")
	flags.BoolVar(&f.pprof, "pprof", false, "also serve profiles of this process at /debug/pprof/")
	return cmd
}

// defaultSimulateHTTP is where simulate serves HTTP, or at another port if that one is taken.
const defaultSimulateHTTP = "127.0.0.1:8080"

// plan returns the plan that the manifest and the flags make, and what a person should know of it: in what
// it differs from the manifest, and what it will probably not do as expected.
func (f *simulateFlags) plan() (*plan.Plan, []string, error) {
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	manifest, err := f.manifest.read()
	if err != nil {
		return nil, nil, err
	}
	notes := f.override(manifest)
	p, err := f.manifest.plan(manifest)
	if err != nil {
		return nil, nil, err
	}
	p.StartTime = time.Time{}
	p.RabbitMQ, p.Redis = plan.BindingRef{URI: f.servers.rabbitmq}, plan.BindingRef{URI: f.servers.redis}
	p.SummaryAPI = plan.SummaryAPI{URL: f.summaryURL, External: f.summaryURL != "", SecretDir: f.summarySecret}
	if f.manifest.simulation == "" && f.servers.any() {
		// What an earlier invocation left on the servers must not enter this one's ledger.
		p.Simulation += "-" + event.NewRun()[:6]
	}
	if err := p.Validate(); err != nil {
		return nil, nil, err
	}
	return p, append(notes, plan.Warnings(manifest)...), nil
}

// check refuses flags that make no sense, whatever the manifest.
func (f *simulateFlags) check() error {
	switch {
	case f.duration <= 0 && !f.endless:
		return fmt.Errorf("--duration: %s must be above 0s; leave it out to go on until Ctrl-C", f.duration)
	case f.drainTimeout <= 0:
		return fmt.Errorf("--drain-timeout: %s must be above 0s", f.drainTimeout)
	case f.seedChosen && f.seed < 0:
		return fmt.Errorf("--seed: %d must not be negative", f.seed)
	case f.keep && !f.servers.any():
		return errors.New("--keep: what is in memory cannot be kept: name servers with --rabbitmq-uri and --redis-uri")
	case f.summaryURL != "" && f.summariesDB != "":
		return errors.New("--summary-url and --summaries-db: the summaries go to one place only, leave one of them out")
	case f.summarySecret != "" && f.summaryURL == "":
		return errors.New("--summary-secret: there is nothing to log in to: name the API with --summary-url")
	}
	if err := f.checkSummaryURL(); err != nil {
		return fmt.Errorf("--summary-url: %w", err)
	}
	if err := (client.Options{SecretDir: f.summarySecret}).CheckSecret(); err != nil {
		return fmt.Errorf("--summary-secret: %w", err)
	}
	return nil
}

// checkSummaryURL refuses what is no address of an API.
func (f *simulateFlags) checkSummaryURL() error {
	if f.summaryURL == "" {
		return nil
	}
	source, err := binding.URI(binding.HTTP(), f.summaryURL)
	if err != nil {
		return err
	}
	address, err := source()
	if err == nil && address.URI.User != nil {
		err = errors.New("must not hold a user name or password: put them into a folder, as files username and password, and name it with --summary-secret")
	}
	return err
}

// override changes the manifest as the flags say, and returns a note of each change.
func (f *simulateFlags) override(manifest *v1alpha1.ParkingSimulation) (notes []string) {
	spec := &manifest.Spec
	if f.duration > 0 {
		if before := spec.Duration; before != nil && before.Duration != f.duration {
			notes = append(notes, fmt.Sprintf("--duration %s stands instead of the manifest's %s", f.duration, before.Duration))
		}
		spec.Duration = &metav1.Duration{Duration: f.duration}
	}
	if f.seedChosen {
		if before := spec.Seed; before != nil && *before != f.seed {
			notes = append(notes, fmt.Sprintf("--seed %d stands instead of the manifest's %d", f.seed, *before))
		}
		spec.Seed = &f.seed
	}
	if spec.Suspend {
		notes = append(notes, "spec.suspend is true: no event will be published")
	}
	for _, ignored := range []struct {
		field string
		given bool
	}{
		{"spec.rabbitmq.clusterRef", spec.RabbitMQ.ClusterRef != nil},
		{"spec.rabbitmq.secretRef", spec.RabbitMQ.SecretRef != nil},
		{"spec.redis.secretRef", spec.Redis.SecretRef != nil},
		{"spec.summaryAPI.url", spec.SummaryAPI.URL != ""},
	} {
		if ignored.given {
			notes = append(notes, ignored.field+" counts in a cluster only; here flags name servers")
		}
	}
	return notes
}

func (c *cli) simulate(ctx context.Context, f simulateFlags) error {
	f.servers.fromEnvironment(c.getenv)
	p, notes, err := f.plan()
	if err != nil {
		return badInput(err)
	}
	view := newView(c.stderr, p)
	log := c.loggerTo(view, f.level.Level)
	session, err := openSession(ctx, f, p, log)
	if err != nil {
		return err
	}
	defer session.close(log)
	c.ending.set(func() {
		view.end()
		c.complain(session.abandon())
	})
	defer c.ending.set(nil)
	if err := session.declare(ctx); err != nil {
		return err
	}
	view.begin(session.describe(), notes)
	result := session.run(ctx, view)
	view.end()
	err = c.printResult(f.output, p, result)
	if f.keep {
		_, _ = fmt.Fprintln(c.stderr, session.kept()) // there is nowhere else to say it
	} else if left := session.purge(ctx); left != nil {
		return errors.Join(err, left)
	}
	if err == nil && result.Outcome != ledger.Pass {
		err = errVerdict
	}
	return err
}

func (c *cli) printResult(format outputFormat, p *plan.Plan, r simulate.Result) error {
	if format == outputJSON {
		return printJSON(c.stdout, r)
	}
	return c.print(resultTable(p, r, newTable(c.stdout)))
}

// print writes lines to stdout.
func (c *cli) print(lines []string) error {
	_, err := c.stdout.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// outputFormat is a flag that says how a result is printed.
type outputFormat string

// The formats.
const (
	outputTable outputFormat = "table"
	outputJSON  outputFormat = "json"
)

// String, Set and Type make it a flag.
func (o *outputFormat) String() string { return string(*o) }

// Set reads a format.
func (o *outputFormat) Set(s string) error {
	switch outputFormat(s) {
	case outputTable, outputJSON:
		*o = outputFormat(s)
		return nil
	}
	return errors.New("must be table or json")
}

// Type is the flag's placeholder in help texts.
func (o *outputFormat) Type() string { return "format" }

// manifestFlags name the simulation.
type manifestFlags struct {
	path       manifestPath
	simulation string
}

func (f *manifestFlags) register(cmd *cobra.Command) {
	cmd.Flags().VarP(&f.path, "filename", "f", "`file` with the manifest of a ParkingSimulation in YAML or JSON; - for stdin")
	f.registerName(cmd)
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json") // fails only for a flag that does not exist
}

func (f *manifestFlags) registerName(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.simulation, "simulation", "", "`name` by which servers know the simulation (default: the manifest's namespace.name; simulate adds a unique suffix)")
}

// manifestPath is a flag that names one file, once.
type manifestPath string

// String, Set and Type make it a flag.
func (p *manifestPath) String() string { return string(*p) }

// Set takes the name.
func (p *manifestPath) Set(path string) error {
	switch {
	case path == "":
		return errors.New("must name a file, or be - for stdin")
	case *p != "":
		return fmt.Errorf("is one manifest too many, after %q: a simulation has one", *p)
	}
	*p = manifestPath(path)
	return nil
}

// Type is the flag's placeholder in help texts.
func (p *manifestPath) Type() string { return "file" }

// read returns the manifest, one with an empty spec if none is named.
func (f *manifestFlags) read() (*v1alpha1.ParkingSimulation, error) {
	switch f.path {
	case "":
		return &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Name: "simulation"}}, nil
	case "-":
		return plan.ReadManifest(os.Stdin)
	default:
		return plan.ReadManifestFile(string(f.path))
	}
}

// plan returns the plan of the manifest.
func (f *manifestFlags) plan(manifest *v1alpha1.ParkingSimulation) (*plan.Plan, error) {
	p, err := plan.FromSimulation(manifest)
	if err != nil {
		return nil, err
	}
	if f.simulation != "" {
		p.Simulation = f.simulation
		if err := p.Validate(); err != nil { // the rest is valid
			return nil, fmt.Errorf("--simulation: %w", err)
		}
	}
	return p, nil
}

// serverFlags name real servers.
type serverFlags struct {
	rabbitmq, redis string
	// given reports whether a flag is in the command line.
	given func(flag string) bool
}

// The environment variables that stand for the flags, so that passwords need not be in a command line,
// which every user of the machine can read.
const (
	flagRabbitMQ = "rabbitmq-uri"
	envRabbitMQ  = "PARKING_RABBITMQ_URI"
	flagRedis    = "redis-uri"
	envRedis     = "PARKING_REDIS_URI"
)

func (f *serverFlags) register(cmd *cobra.Command) {
	f.given = cmd.Flags().Changed
	cmd.Flags().StringVar(&f.rabbitmq, flagRabbitMQ, "", "`URI` of a RabbitMQ, amqp:// or amqps:// (default: "+envRabbitMQ+" of the environment; \"\" for none)")
	cmd.Flags().StringVar(&f.redis, flagRedis, "", "`URI` of a Redis or Valkey, redis:// or rediss:// (default: "+envRedis+" of the environment; \"\" for none)")
}

// fromEnvironment takes what the command line does not say. An empty flag says that there is no such server.
func (f *serverFlags) fromEnvironment(getenv func(string) string) {
	if !f.given(flagRabbitMQ) {
		f.rabbitmq = getenv(envRabbitMQ)
	}
	if !f.given(flagRedis) {
		f.redis = getenv(envRedis)
	}
}

func (f *serverFlags) any() bool { return f.rabbitmq != "" || f.redis != "" }
