package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/sizing"
)

func planText(t *testing.T, args ...string) string {
	t.Helper()
	got := parking(t, append([]string{"plan"}, args...)...)
	if got.code != exitOK {
		t.Fatalf("plan %v: exit code %d: %s", args, got.code, got.stderr)
	}
	return got.stdout
}

func planJSON(t *testing.T, args ...string) planOutput {
	t.Helper()
	var output planOutput
	if err := json.Unmarshal([]byte(planText(t, append(args, "-o", "json")...)), &output); err != nil {
		t.Fatal(err)
	}
	return output
}

// readManifests reads manifests that are separated by "---".
func readManifests(t *testing.T, text string) []*v1alpha1.ParkingSimulation {
	t.Helper()
	var all []*v1alpha1.ParkingSimulation
	for document := range strings.SplitSeq(text, "\n---\n") {
		sim, err := manifest.Read(strings.NewReader(document))
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		resolved, faults := manifest.Resolve(sim)
		if faults != nil {
			t.Fatal(faults)
		}
		if len(resolved.Warnings) > 0 {
			t.Errorf("warnings: %q", resolved.Warnings)
		}
		all = append(all, sim)
	}
	return all
}

// The rates of the manifests must add up to the planned rate. 'parking plan -f' must find no shortage.
func TestPlanCommand_ManifestOutput_IsValidAndSufficesForTheRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []int64{1, 101, 9_999, 40_000, 1_000_000} {
		for _, flags := range [][]string{nil, {"--rabbitmq-nodes", "3"}, {"--external-servers"}, {"--max-stay", "1m", "--duration", "90s", "--match-percent", "100"}} {
			args := append([]string{"--rate", fmt.Sprint(rate)}, flags...)
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				t.Parallel()
				text := planText(t, append(args, "-o", "manifest", "--name", "rush-hour")...)
				total, names := int64(0), map[string]bool{}
				sims := readManifests(t, text)
				for _, sim := range sims {
					total += int64(*sim.Spec.Entry.Rate) + int64(*sim.Spec.Exit.Rate)
					names[sim.Name] = true
				}
				if total != rate || len(names) != len(sims) {
					t.Errorf("%d simulations with %d names have %d events/s, want %d", len(sims), len(names), total, rate)
				}
				path := filepath.Join(t.TempDir(), "first.yaml")
				first, _, _ := strings.Cut(text, "\n---\n")
				if err := os.WriteFile(path, []byte(first), 0o600); err != nil {
					t.Fatal(err)
				}
				if output := planJSON(t, "-f", path); len(output.Manifest) > 0 || output.Simulations > 1 {
					t.Errorf("the manifest has too little: %v\n%s", output.Manifest, first)
				}
			})
		}
	}
}

func TestPlanCommand_ManifestFile_ListsValuesThatAreTooSmall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "small.yaml")
	text := `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: small}
spec:
  duration: 2h
  entry: {rate: 100, stages: [{duration: 10m, rate: 30000}, {duration: 1m, rate: 10}]}
  exit: {rate: 90}
  plates: {maxStay: 10m}
  processor: {resources: {requests: {cpu: 1m, memory: 64Gi}, limits: {memory: 64Gi}}}
  redis: {managed: {storage: {size: 1Gi}}}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	output := planJSON(t, "-f", path)
	if got, want := output.Request.EntriesPerSecond+output.Request.ExitsPerSecond, int64(30_090); got != want {
		t.Errorf("the plan is for %d events/s, want %d, the peak of the stages", got, want)
	}
	got := map[string]string{}
	for _, s := range output.Manifest {
		got[s.Field] = s.Has
	}
	for field, has := range map[string]string{
		"spec.rabbitmq.partitions": "1", "spec.processor.resources.requests.cpu": "1m", "spec.redis.managed.storage.size": "1Gi",
		"spec.entry.resources.requests.cpu": notSet,
	} {
		if got[field] != has {
			t.Errorf("%s has %q, want %q in %v", field, got[field], has, output.Manifest)
		}
	}
	if _, listed := got["spec.processor.resources.requests.memory"]; listed {
		t.Errorf("64Gi is listed as too little: %v", output.Manifest)
	}
	if table := planText(t, "-f", path); !strings.Contains(table, "too small in the manifest") || !strings.Contains(table, "spec.rabbitmq.partitions") {
		t.Errorf("the table does not list what is missing:\n%s", table)
	}
}

func TestPlanCommand_Peak_IsTheHighestSumOfEntryAndExitRate(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string][2]int64{
		`{}`: {200, 180},
		`{entry: {rate: 500, stages: [{duration: 1ms, rate: 10}]}, exit: {rate: 0}}`:                                      {500, 0},
		`{entry: {rate: 0, stages: [{duration: 10s, rate: 100}, {duration: 10s, rate: 0}]}, exit: {rate: 50}}`:            {100, 50},
		`{duration: 5s, entry: {rate: 0, stages: [{duration: 10s, rate: 100}]}, exit: {rate: 0}}`:                         {50, 0},
		`{entry: {rate: 10}, exit: {rate: 0, minStay: 1s, stages: [{duration: 10s, rate: 70}, {duration: 1s, rate: 0}]}}`: {10, 70},
	} {
		sim := new(v1alpha1.ParkingSimulation)
		if err := yaml.Unmarshal([]byte("spec: "+spec), sim); err != nil {
			t.Fatal(err)
		}
		sim.Name = "a"
		resolved, errs := manifest.Resolve(sim)
		if errs != nil {
			t.Fatal(errs)
		}
		if entries, exits := peak(resolved.Plan); [2]int64{entries, exits} != want {
			t.Errorf("%s: the peak is %d and %d, want %v", spec, entries, exits, want)
		}
	}
}

func TestPlanCommand_AllFormats_HaveTheSameFigures(t *testing.T) {
	t.Parallel()
	args := []string{"--rate", "1000"}
	var fromYAML planOutput
	if err := yaml.Unmarshal([]byte(planText(t, append(args, "-o", "yaml")...)), &fromYAML); err != nil {
		t.Fatal(err)
	}
	fromJSON := planJSON(t, args...)
	a, _ := json.Marshal(fromYAML)
	b, _ := json.Marshal(fromJSON)
	if !bytes.Equal(a, b) {
		t.Errorf("YAML and JSON differ:\n%s\n%s", a, b)
	}
	table := planText(t, args...)
	for _, note := range fromJSON.Notes {
		if !strings.Contains(table, note) {
			t.Errorf("the table does not say %q", note)
		}
	}
}

func TestPlanCommand_CostsFlag_ReplacesTheEmbeddedCosts(t *testing.T) {
	t.Parallel()
	costs, err := sizing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range costs.Points {
		u := p.Components[sizing.RabbitMQ]
		u.Cores *= 2
		p.Components[sizing.RabbitMQ] = u
	}
	path := filepath.Join(t.TempDir(), "costs.json")
	text, err := json.Marshal(costs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	before, after := planJSON(t, "--rate", "1000"), planJSON(t, "--rate", "1000", "--costs", path)
	if ratio := after.Components[0].UsedCores / before.Components[0].UsedCores; ratio < 1.99 || ratio > 2.01 {
		t.Errorf("RabbitMQ uses %g times as much, want 2", ratio)
	}
}

func TestPlanCommand_InvalidInput_SaysWhatToDo(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "costs.json")
	if err := os.WriteFile(broken, []byte(`{"points": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"plan":                                 "set --rate or -f",
		"plan --rate 1 -f x.yaml":              "only one of --rate and -f",
		"plan -f x.yaml -o manifest":           "set --rate instead of -f",
		"plan -f x.yaml --max-stay 1m":         "the manifest given by -f contains this value",
		"plan --rate 0":                        "--rate: 0 must be from 1 to 100000000",
		"plan --rate many":                     "must be a whole number",
		"plan --rate 1 --utilization 100":      "--utilization: 100 must be a percentage from 1 to 95",
		"plan --rate 1 --rabbitmq-nodes 2":     "must be 1, 3 or 5",
		"plan --rate 1 --match-percent 101":    "must be from 0 to 100",
		"plan --rate 1 --node-cores 0":         "--node-cores: must be above 0",
		"plan --rate 1 --node-cores many":      "must be a number",
		"plan --rate 1 --node-memory lots":     "must be a quantity of at least 1Gi, such as 32Gi",
		"plan --rate 1 --node-memory 32":       `--node-memory: "32" must be a quantity of at least 1Gi`,
		"plan --rate 1 --duration 0s":          "must be a duration up to 8760h",
		"plan --rate 1 --name No_Name -o yaml": "--name",
		"plan --rate 100000000 -o manifest":    "-o manifest needs a feasible plan. No number of simulations is enough: a simulation would have fewer plates than vehicles that enter within the longest stay",
		"plan --rate 1 -o xml":                 "must be table, json, yaml or manifest",
		"plan --rate 1 --costs " + broken:      "run make bench-costs",
		"plan -f /does/not/exist.yaml":         "no such file",
	} {
		got := parking(t, strings.Fields(line)...)
		if got.code != exitBadInput || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 || got.stdout != "" {
			t.Errorf("%s: exit code %d, want %d and %q: %s%s", line, got.code, exitBadInput, want, got.stderr, got.stdout)
		}
	}
}

// docSizing is the document whose tables come from the measured costs.
const docSizing = "../../docs/sizing.md"

func TestDocs_SizingPage_MatchesTheMeasurementsAndTheOutputOfPlan(t *testing.T) {
	t.Parallel()
	checkGenerated(t, docSizing, "costs", costsTable(t))
	checkGenerated(t, docSizing, "rates", ratesTable(t))
	checkGenerated(t, docSizing, "nodes", nodesTable(t))
	checkGenerated(t, docSizing, "check", checkTable(t))
	checkGenerated(t, docSizing, "partitions", partitionsTable(t))
	text, err := os.ReadFile(docSizing)
	if err != nil {
		t.Fatal(err)
	}
	outputs := regexp.MustCompile("<!-- generated: (parking plan [^>]*) -->").FindAllSubmatch(text, -1)
	if len(outputs) == 0 {
		t.Errorf("%s shows no output of parking plan", docSizing)
	}
	for _, match := range outputs {
		line := string(match[1])
		out := planText(t, strings.Fields(line)[2:]...)
		checkGenerated(t, docSizing, line, "```console\n$ "+line+"\n"+strings.TrimRight(out, "\n")+"\n```\n")
	}
}

// costsTable returns the measured costs per event and the measured memory of each component, at each rate.
func costsTable(t *testing.T) string {
	t.Helper()
	costs, err := sizing.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	out.WriteString(costs.String() + "\n\n| |")
	for i := range costs.Points {
		fmt.Fprintf(&out, " %.0f events/s |", costs.Points[i].Rate())
	}
	out.WriteString("\n|---|" + strings.Repeat("---|", len(costs.Points)) + "\n")
	row := func(name string, value func(*sizing.Point) string) {
		out.WriteString("| " + name + " |")
		for i := range costs.Points {
			out.WriteString(" " + value(&costs.Points[i]) + " |")
		}
		out.WriteString("\n")
	}
	perEvent := func(p *sizing.Point, perSecond, unit float64) string {
		if p.Rate() == 0 {
			return "–"
		}
		return fmt.Sprintf("%.0f", perSecond/p.Rate()/unit)
	}
	const micro = 1e-6
	for _, c := range sizing.Components() {
		row(string(c)+": CPU µs/event", func(p *sizing.Point) string { return perEvent(p, p.Components[c].Cores, micro) })
	}
	row("all: CPU µs/event", func(p *sizing.Point) string { return perEvent(p, p.Cores(), micro) })
	for _, c := range sizing.Components() {
		row(string(c)+": memory MiB", func(p *sizing.Point) string { return fmt.Sprintf("%.0f", p.Components[c].MemoryBytes/(1<<20)) })
	}
	for _, c := range []sizing.Component{sizing.RabbitMQ, sizing.Redis, sizing.SummaryAPI} {
		row(string(c)+": disk writes, bytes/event", func(p *sizing.Point) string { return perEvent(p, p.Components[c].WriteBytes, 1) })
	}
	for _, c := range []sizing.Component{sizing.RabbitMQ, sizing.Redis, sizing.Processor, sizing.EntryGenerator, sizing.ExitGenerator} {
		row(string(c)+": network, bytes/event", func(p *sizing.Point) string { return perEvent(p, p.Components[c].NetworkBytes, 1) })
	}
	row("CPU of other programs, cores", func(p *sizing.Point) string { return fmt.Sprintf("%.2f", p.OtherCores) })
	row("end-to-end p50 / p99, ms", func(p *sizing.Point) string {
		if p.EndToEnd.IsZero() {
			return "–"
		}
		return fmt.Sprintf("%.1f / %.0f", p.EndToEnd.Quantile(.5).Seconds()*1e3, p.EndToEnd.Quantile(.99).Seconds()*1e3)
	})
	fmt.Fprintf(&out, "\nA parked vehicle takes %.0f bytes of Redis memory, and a summary %.0f bytes of the SQLite database.\n",
		costs.Growth.RedisBytesPerVisit, costs.Growth.DatabaseBytesPerSummary)
	return out.String()
}

// ratesTable returns a table of the plans for several rates, from 100 to 1,000,000 events per second.
func ratesTable(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("| events/s | simulations | partitions | processors | generators | CPU used / requested | memory | volumes | network | nodes |\n")
	out.WriteString("|" + strings.Repeat("---|", 10) + "\n")
	for _, rate := range []string{"100", "1000", "10000", "100000", "1000000"} {
		r := planJSON(t, "--rate", rate).Result
		pods := map[sizing.Component]int{}
		for _, p := range r.Components {
			pods[p.Component] = p.Replicas * r.Simulations
		}
		fmt.Fprintf(&out, "| %d | %d | %d | %d | %d | %.1f / %.1f | %s | %s | %s/s | %d |\n", r.Total.EventsPerSecond, r.Simulations,
			r.Partitions*r.Simulations, pods[sizing.Processor], pods[sizing.EntryGenerator]+pods[sizing.ExitGenerator],
			r.Total.UsedCores, r.Total.CPURequest, gibibytes(r.Total.MemoryRequest), gibibytes(r.Total.DiskBytes), mebibytes(r.Total.NetworkBytes), r.Total.Nodes)
	}
	return out.String()
}

// nodesTable returns a table of the number of nodes that a million events per second need, by cores per node.
func nodesTable(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("| `--node-cores` | simulations | pods | CPU requested | nodes |\n|---|---|---|---|---|\n")
	for _, cores := range []string{"1.8", "4", "8", "16"} {
		r := planJSON(t, "--rate", "1000000", "--max-stay", "10m", "--node-cores", cores).Result
		fmt.Fprintf(&out, "| %s | %d | %d | %.1f | %d |\n", cores, r.Simulations, r.Total.Pods, r.Total.CPURequest, r.Total.Nodes)
	}
	return out.String()
}

// partitionsTable returns a table of the measurements in partitions.json, with one row for each number of partitions.
func partitionsTable(t *testing.T) string {
	t.Helper()
	var s sizing.Scaling
	readMeasured(t, "partitions.json", &s)
	var out strings.Builder
	fmt.Fprintf(&out, "Measured on %s on %d cores, with %d nodes of RabbitMQ %s and one Redis %s; medians of %d rounds.\n"+
		"At most %d messages of each queue are processed at the same time, and data takes %.0f ms in each direction.\n\n",
		s.MeasuredAt.Format("2006-01-02"), s.Cores, s.Nodes, s.Method.RabbitMQ, s.Method.Redis, s.Rounds, s.Concurrency, s.DelaySeconds*1e3)
	out.WriteString("| partitions | processors | events/s | relative to 1 partition | cores used |\n|---|---|---|---|---|\n")
	for _, row := range s.Rows {
		fmt.Fprintf(&out, "| %d | %d | %.0f | %.2f | %.2f |\n", row.Partitions, row.Processors, row.EventsPerSecond,
			row.EventsPerSecond/s.Rows[0].EventsPerSecond, row.UsedCores)
	}
	return out.String()
}

// readMeasured decodes a JSON file with measurements from the directory testdata of package sizing.
func readMeasured(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("../../internal/sizing/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// checkTable reads the file check.json. It returns a table of the predicted and the measured latencies and backlogs.
func checkTable(t *testing.T) string {
	t.Helper()
	var check sizing.Check
	readMeasured(t, "check.json", &check)
	var out strings.Builder
	fmt.Fprintf(&out, "Measured on %s, in the same run as the costs. The target is a ratio from %.1f to %.1f.\n\n",
		check.MeasuredAt.Format("2006-01-02"), 1-sizing.Tolerance, 1+sizing.Tolerance)
	if costs, err := sizing.Embedded(); err != nil || costs.Busy() {
		out.WriteString("**Other programs kept the machine busy during this check, so it does not show how good the predictions of latency and\n" +
			"recovery are. Repeat it on an idle machine.**\n\n")
	}
	out.WriteString("| events/s | figure | predicted | measured | ratio |\n|---|---|---|---|---|\n")
	for _, row := range check.Rows {
		missed := ""
		if !row.WithinTolerance() {
			missed = ": missed"
		}
		fmt.Fprintf(&out, "| %d | %s | %.3g | %.3g | %.2f%s |\n", row.EventsPerSecond, row.Figure, row.Predicted, row.Measured, row.Ratio(), missed)
	}
	return out.String()
}
