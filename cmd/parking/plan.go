package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/flagvalue"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sizing"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

const planHelp = `Compute what a rate of events needs: CPU, memory, disks, partitions, pods and nodes. Predict the
latency, the backlog of an outage, and how long the recovery takes. No server or cluster is used.

All figures come from measured costs, which are part of this binary. The output says when and where
they were measured, and where the plan goes beyond what was measured. Costs differ between
machines: measure yours as docs/sizing.md describes, and pass the file with --costs.

With -f, the rates and servers come from a manifest, and the output lists the values of the
manifest that are too small. Without -f, half of the events are entries and half are exits.

If a rate exceeds what one simulation can do with the servers that the operator runs, the plan has
several simulations. With --external-servers, the plan is for your own RabbitMQ cluster, Redis
Cluster and PostgreSQL.

-o manifest prints a manifest with the partitions, pods and resources of the plan, or one for each
of several simulations. It fails if no number of simulations is enough.

docs/sizing.md explains the figures.

Exit codes:
  0  success
  2  invalid input`

const planExamples = `  # What does a rate need?
  parking plan --rate 50000

  # A million events per second, on nodes of 16 cores and 64Gi
  parking plan --rate 1000000 --node-cores 16 --node-memory 64Gi

  # Run what the plan recommends
  parking plan --rate 20000 --duration 30m -o manifest | kubectl apply -f -

  # Check a manifest
  parking plan -f rush-hour.yaml`

// formatManifest is the output format in which a plan is printed as manifests.
const formatManifest reportFormat = "manifest"

type planFlags struct {
	manifest manifestFlags
	request  sizing.Request

	rate                      int64
	maxStay, duration, outage flagvalue.Duration
	external                  bool
	nodeMemory                memoryFlag
	costs, name               string
	output                    formatFlag
}

// memoryFlag is a flag value: a number of bytes, written as a Kubernetes quantity.
type memoryFlag string

// String implements pflag.Value.
func (m *memoryFlag) String() string { return string(*m) }

// Set implements pflag.Value.
func (m *memoryFlag) Set(text string) error {
	// The RabbitMQ pod alone requests at least 512 MiB, and the other pods need memory too.
	const least = 1 << 30
	if q, err := v1alpha1.Quantity(text).ParseWhole(); err != nil || q.Value() < least {
		return errors.New("must be a quantity of at least 1Gi, such as 32Gi")
	}
	*m = memoryFlag(text)
	return nil
}

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (m *memoryFlag) Type() string { return "size" }

func (m *memoryFlag) bytes() int64 {
	q := resource.MustParse(string(*m)) // does not panic: the default is valid, and Set rejects invalid texts
	return q.Value()
}

func defaultPlanFlags() planFlags {
	return planFlags{
		request: sizing.Request{MatchPercent: 20, UtilizationPercent: 60, RabbitMQNodes: 1, Node: sizing.Node{Cores: 8}, Seed: 1},
		maxStay: flagvalue.NewDuration(time.Hour), duration: flagvalue.NewDuration(time.Hour), outage: flagvalue.NewDuration(time.Minute),
		nodeMemory: "32Gi", name: "planned",
		output: formatFlag{formatTable, []reportFormat{formatTable, formatJSON, formatYAML, formatManifest}},
	}
}

func (c *cli) planCommand() *cobra.Command {
	f := defaultPlanFlags()
	cmd := &cobra.Command{
		Use:                   "plan {--rate N | -f MANIFEST} [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Compute what a rate needs: CPU, memory, disks, partitions, pods and nodes",
		Long:                  planHelp,
		Example:               planExamples,
		GroupID:               groupSimulations,
	}
	f.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return runs(func(ctx context.Context) error { return badInput(c.plan(ctx, &f, cmd.Flags().Changed)) })(cmd, args)
	}
	return cmd
}

func (f *planFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Int64Var(&f.rate, "rate", 0, "`number` of events per second to plan for, entries and exits together")
	f.manifest.registerFile(cmd)
	flags.IntVar(&f.request.MatchPercent, "match-percent", f.request.MatchPercent, "`percentage` of exits that finish a visit")
	flags.Var(&f.maxStay, "max-stay", "how long a vehicle that does not leave is remembered")
	flags.Var(&f.duration, "duration", "length of the run, which determines the amount of stored data; ignored if the manifest has a duration")
	flags.Var(&f.outage, "outage", "longest outage of the processors during which RabbitMQ keeps all events")
	flags.IntVar(&f.request.UtilizationPercent, "utilization", f.request.UtilizationPercent, "`percentage` of the requested CPU that is in use at the planned rate")
	flags.IntVar(&f.request.RabbitMQNodes, "rabbitmq-nodes", f.request.RabbitMQNodes, "`number` of RabbitMQ nodes of a simulation: 1, 3 or 5")
	flags.Float64Var(&f.request.Node.Cores, "node-cores", f.request.Node.Cores, "allocatable `cores` of a node of the cluster")
	flags.Var(&f.nodeMemory, "node-memory", "allocatable memory of a node of the cluster")
	flags.BoolVar(&f.external, "external-servers", false, "plan for your own RabbitMQ cluster, Redis Cluster and PostgreSQL, with as few simulations as possible")
	flags.StringVar(&f.costs, "costs", "", "`file` with measured costs; docs/sizing.md says how to measure them (default: those in this binary)")
	flags.StringVar(&f.name, "name", f.name, "`name` of the simulation in the manifest")
	flags.VarP(&f.output, outputFlag, "o", "output format: "+f.output.choices())
	_ = cmd.MarkFlagFilename("costs", "json") // cannot fail, because the flag exists
	for name, text := range map[string]string{
		"rate": rateRange(), "match-percent": percentRange, "utilization": utilizationRange, "rabbitmq-nodes": nodesRange,
	} {
		_ = flags.SetAnnotation(name, annotationRange, []string{text}) // cannot fail, because the flag exists
	}
}

// mostPlanned is the maximum value of the flag --rate.
const mostPlanned = 100_000_000

const (
	percentRange     = "must be from 0 to 100"
	utilizationRange = "must be a percentage from 1 to 95, because near 100 % queues grow without end"
	nodesRange       = "must be 1, 3 or 5, because quorum queues need a majority"
)

func rateRange() string { return fmt.Sprintf("must be from 1 to %d events per second", mostPlanned) }

// check validates the flags. The function changed reports whether the user has set the flag with the given name.
func (f *planFlags) check(changed func(string) bool) error {
	if err := f.checkSource(changed); err != nil {
		return err
	}
	switch {
	case f.request.MatchPercent < 0 || f.request.MatchPercent > 100:
		return fmt.Errorf("--match-percent: %d %s", f.request.MatchPercent, percentRange)
	case f.request.UtilizationPercent < 1 || f.request.UtilizationPercent > 95:
		return fmt.Errorf("--utilization: %d %s", f.request.UtilizationPercent, utilizationRange)
	case !slices.Contains([]int{1, 3, 5}, f.request.RabbitMQNodes):
		return fmt.Errorf("--rabbitmq-nodes: %d %s", f.request.RabbitMQNodes, nodesRange)
	case len(validation.IsDNS1123Label(f.name)) > 0:
		return fmt.Errorf("--name: %s must be a name of lower-case letters, digits and dashes", quote(f.name))
	case !(f.request.Node.Cores > 0 && f.request.Node.Cores <= 1024):
		return errors.New("--node-cores: must be above 0 and at most 1024")
	}
	for name, d := range map[string]flagvalue.Duration{"max-stay": f.maxStay, "duration": f.duration, "outage": f.outage} {
		if d.Duration < 0 || d.Duration == 0 && name != "outage" || d.Duration > plan.MaxDuration {
			return fmt.Errorf("--%s: %s must be a duration up to 8760h, such as 30m", name, d)
		}
	}
	return nil
}

// checkSource checks that exactly one of --rate and -f is set, and that no other flag contradicts -f.
func (f *planFlags) checkSource(changed func(string) bool) error {
	switch {
	case f.manifest.path == "" && !changed("rate"):
		return errors.New("set --rate or -f to say what to plan for")
	case f.manifest.path != "" && changed("rate"):
		return errors.New("set only one of --rate and -f: the manifest contains the rates")
	case f.manifest.path != "" && f.output.format == formatManifest:
		return errors.New("-o manifest makes a new manifest: set --rate instead of -f")
	case changed("rate") && (f.rate < 1 || f.rate > mostPlanned):
		return fmt.Errorf("--rate: %d %s", f.rate, rateRange())
	}
	for _, name := range []string{"match-percent", "max-stay", "rabbitmq-nodes"} {
		if f.manifest.path != "" && changed(name) {
			return fmt.Errorf("--%s: remove it, because the manifest given by -f contains this value", name)
		}
	}
	return nil
}

func (c *cli) plan(ctx context.Context, f *planFlags, changed func(string) bool) error {
	if err := f.check(changed); err != nil {
		return err
	}
	costs, err := f.readCosts()
	if err != nil {
		return err
	}
	sim, err := f.complete(ctx)
	if err != nil {
		return err
	}
	output := planOutput{Result: sizing.Compute(costs, f.request)}
	if sim != nil {
		output.Manifest = shortages(sim, output.Result)
	}
	return c.printPlan(f, sim != nil, output)
}

func (f *planFlags) readCosts() (*sizing.Costs, error) {
	if f.costs == "" {
		return sizing.Embedded()
	}
	text, err := document.ReadFile(f.costs)
	if err != nil {
		return nil, fmt.Errorf("--costs: %w", err)
	}
	costs, err := sizing.ParseCosts(text)
	if err != nil {
		return nil, fmt.Errorf("--costs: %s: %w", f.costs, err)
	}
	return costs, nil
}

// complete sets the fields of f.request that no flag sets directly. It returns the manifest of the flag -f, or nil
// without -f.
func (f *planFlags) complete(ctx context.Context) (*v1alpha1.ParkingSimulation, error) {
	r := &f.request
	r.Node.MemoryBytes = f.nodeMemory.bytes()
	r.MaxStay, r.Duration, r.Outage = plan.Duration(f.maxStay.Duration), plan.Duration(f.duration.Duration), plan.Duration(f.outage.Duration)
	r.External = sizing.External{RabbitMQ: f.external, Redis: f.external, Database: f.external}
	if f.manifest.path == "" {
		r.EntriesPerSecond, r.ExitsPerSecond = (f.rate+1)/2, f.rate/2
		return nil, nil //nolint:nilnil // there is no manifest
	}
	sim, err := f.manifest.read(ctx)
	if err != nil {
		return nil, err
	}
	resolved, err := f.manifest.resolve(ctx, sim)
	if err != nil {
		return nil, err
	}
	requestOf(r, resolved.Simulation, resolved.Plan)
	if r.EntriesPerSecond+r.ExitsPerSecond == 0 {
		return nil, errors.New("entry.rate and exit.rate are 0: there is nothing to plan")
	}
	return resolved.Simulation, nil
}

type planOutput struct {
	*sizing.Result

	// Manifest lists the fields of the given manifest that are too small for the manifest's rates.
	Manifest []shortage `json:"manifest,omitempty"`
}

func (c *cli) printPlan(f *planFlags, checked bool, output planOutput) error {
	switch f.output.format {
	case formatJSON:
		return printJSON(c.stdout, output)
	case formatYAML:
		text, err := json.Marshal(output)
		if err == nil {
			text, err = yaml.JSONToYAML(text)
		}
		if err != nil {
			return err
		}
		return c.output("", text)
	case formatManifest:
		if output.Infeasible != "" {
			return fmt.Errorf("-o manifest needs a feasible plan. %s", output.Infeasible)
		}
		text, err := plannedManifests(f.name, output.Result)
		if err != nil {
			return err
		}
		return c.output("", text)
	}
	return c.print(planTable(&output, checked, newTable(c.stdout)))
}

// planTable formats a plan as a table. If the parameter checked is true, the table also lists the values of the
// manifest that are too small.
func planTable(output *planOutput, checked bool, t *table) []string {
	r := output.Result
	t.add("", "  "+t.palette.Head(planTitle(r)))
	t.paragraph(" ", planSubtitle(r))
	t.add("")
	const textFrom = 99 // no column after the first contains text
	t.add(aligned(podRows(r), textFrom)...)
	t.add("")
	t.add(aligned(totalRows(r), 1)...)
	t.add("")
	t.add(aligned(predictionRows(r), 1)...)
	if checked {
		t.add("")
		t.add(aligned(shortageRows(output.Manifest), textFrom)...)
	}
	t.add("")
	for _, note := range append(r.Notes, r.Measured) {
		t.paragraph("  "+t.palette.Dim("note:"), note)
	}
	return append(t.lines, "")
}

func planTitle(r *sizing.Result) string {
	return fmt.Sprintf("%s events/s: %s entries/s and %s exits/s; %d %% of the exits finish a visit", terminal.Count(r.Total.EventsPerSecond),
		terminal.Count(r.Request.EntriesPerSecond), terminal.Count(r.Request.ExitsPerSecond), r.Request.MatchPercent)
}

func planSubtitle(r *sizing.Result) string {
	partitions := "1 partition"
	if r.Partitions > 1 {
		partitions = fmt.Sprintf("%d partitions", r.Partitions)
	}
	if r.Simulations == 1 {
		return "1 simulation with " + partitions
	}
	return fmt.Sprintf("%d simulations of %s events/s, each with %s", r.Simulations, terminal.Count(r.Total.EventsPerSecond/int64(r.Simulations)), partitions)
}

func podRows(r *sizing.Result) [][]string {
	rows := [][]string{{"each pod of one simulation", "pods", "cores used", "CPU request", "memory request", "volume", "disk writes/s", "network/s"}}
	for i := range r.Components {
		p := &r.Components[i]
		name := string(p.Component)
		if p.Component == sizing.RabbitMQ && r.Request.External.RabbitMQ || p.Component == sizing.Redis && r.Request.External.Redis {
			name += " (external)"
		}
		rows = append(rows, []string{
			name, strconv.Itoa(p.Replicas), fmt.Sprintf("%.2f", p.UsedCores), cpuQuantity(p.CPURequest), memoryQuantity(p.MemoryRequest),
			orNone(p.DiskBytes > 0, memoryQuantity(p.DiskBytes)), orNone(p.WriteBytes > 0, mebibytes(p.WriteBytes)),
			orNone(p.Component != sizing.SummaryAPI, mebibytes(p.NetworkBytes)),
		})
	}
	return rows
}

func orNone(has bool, text string) string {
	if !has {
		return "–"
	}
	return text
}

func totalRows(r *sizing.Result) [][]string {
	t := &r.Total
	return [][]string{
		{"in total", ""},
		{"nodes", fmt.Sprintf("%s of %g cores and %s, with %.0f %% of their CPU in use", terminal.Count(int64(t.Nodes)), r.Request.Node.Cores,
			gibibytes(r.Request.Node.MemoryBytes), t.UtilizationPercent)},
		{"pods", terminal.Count(int64(t.Pods))},
		{"CPU", fmt.Sprintf("%.1f cores used, %.1f requested", t.UsedCores, t.CPURequest)},
		{"memory", gibibytes(t.MemoryRequest) + " requested"},
		{"volumes", fmt.Sprintf("%s, after a run of %s", gibibytes(t.DiskBytes), *v1alpha1.NewDuration(r.Request.Duration.D()))},
		{"disk writes", mebibytes(t.WriteBytes) + "/s"},
		{"network", mebibytes(t.NetworkBytes) + "/s, sent and received by all pods"},
		{"parked vehicles", terminal.Count(t.VisitsInRedis)},
		{"summaries", terminal.Count(int64(t.SummariesPerSecond+.5)) + "/s"},
	}
}

func predictionRows(r *sizing.Result) [][]string {
	p := &r.Prediction
	rows := [][]string{{"prediction for one simulation", ""}}
	if !p.Sustained {
		return append(rows, []string{"backlog", fmt.Sprintf("grows without end, by %s events/s", terminal.Count(int64(p.BacklogGrowthPerSecond)))})
	}
	rows = append(rows,
		[]string{"capacity", fmt.Sprintf("%s events/s, limited by %s", terminal.Count(int64(r.Capacity.EventsPerSecond)), r.Capacity.LimitedBy)},
		[]string{"utilization", fmt.Sprintf("the load is %.0f %% of this capacity", p.UtilizationPercent)},
		[]string{"end-to-end latency", fmt.Sprintf("p50 %s, p99 %s, mean %s", seconds(p.EndToEnd.P50), seconds(p.EndToEnd.P99), seconds(p.EndToEnd.Mean))},
		[]string{"events in flight", terminal.Count(int64(p.EventsInFlight + .5))},
	)
	if outage := r.Request.Outage.D(); outage > 0 {
		rows = append(rows, []string{
			"outage of " + string(*v1alpha1.NewDuration(outage)),
			fmt.Sprintf("%s events wait in RabbitMQ; the last of them is processed %s after the outage", terminal.Count(int64(p.OutageBacklog+.5)), seconds(p.RecoverySeconds)),
		})
	}
	return rows
}

func seconds(s float64) string { return terminal.Duration(time.Duration(s * float64(time.Second))) }

func shortageRows(all []shortage) [][]string {
	rows := [][]string{{"too small in the manifest, or not set", "has", "needs"}}
	if len(all) == 0 {
		return [][]string{{"No value of the manifest is too small."}}
	}
	for _, s := range all {
		rows = append(rows, []string{s.Field, s.Has, s.Needs})
	}
	return rows
}

// mebibytes and gibibytes format a number of bytes.
func mebibytes(bytes float64) string { return amount(bytes/(1<<20)) + " MiB" }

func gibibytes(bytes int64) string { return amount(float64(bytes)/(1<<30)) + " GiB" }

func amount(n float64) string {
	const few = 10
	if n < few {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", n), ".0")
	}
	return terminal.Count(int64(n + .5))
}

// cpuQuantity formats a number of cores as a Kubernetes quantity, such as 250m.
func cpuQuantity(cores float64) string {
	q := resource.NewMilliQuantity(int64(cores*1000+.5), resource.DecimalSI)
	return q.String()
}

func memoryQuantity(bytes int64) string {
	return strings.TrimSpace(resource.NewQuantity(bytes, resource.BinarySI).String())
}
