// Command soak is a long fault test. It injects every fault action into every target, many times, on private servers
// or in a cluster.
//
// It runs many simulations of a few minutes. An interrupted soak continues with the next simulation that has no
// report.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
)

const (
	// perSimulation is the maximum number of faults in one simulation. A manifest can have 20. Two simulations together
	// must cover all 35 pairs of target and action.
	perSimulation = 18
	// first is the time of the first fault, from the start of a simulation.
	first = 15 * time.Second
	// spacing is the time between two faults, including 5 s for the measurement of the recovery.
	spacing = 12 * time.Second
	// rabbitMQSpacing is the time between a fault in RabbitMQ and the next fault. RabbitMQ takes up to 20 s to start.
	rabbitMQSpacing = 25 * time.Second
	// inCluster is added to the time between two faults in a cluster, because the kubelet delays the second restart of
	// a container by 10 s. No container restarts a third time, because at most two targets share a pod.
	inCluster = 20 * time.Second
	// faultDuration is the duration of each pause and each isolation.
	faultDuration = 5 * time.Second
)

func main() {
	faults := flag.Int("faults", 1000, "minimum number of faults in all simulations together")
	jobs := flag.Int("jobs", 1, "number of simulations that run at the same time")
	root := flag.String("root", "", "root `directory` of another Debian; the simulations then alternate between three sets of servers: those of this system, RabbitMQ and Redis in the directory, and RabbitMQ and Valkey in the directory")
	s := settings{systems: []system{{}}}
	flag.BoolVar(&s.cluster, "cluster", false, "run the simulations on the cluster that KUBECONFIG names, whose operator must be running")
	flag.StringVar(&s.program, "parking", "bin/parking", "`path` of the parking program, which runs the simulations")
	flag.StringVar(&s.directory, "directory", ".soak", "`directory` for the reports of the simulations")
	flag.Parse()
	if *root != "" {
		rabbitMQ, redis := "PARKING_RABBITMQ_ROOT="+*root, "PARKING_REDIS_ROOT="+*root
		s.systems = append(s.systems, system{rabbitMQ, redis}, system{rabbitMQ, redis, "PARKING_REDIS_SERVER=valkey-server"})
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := s.soak(ctx, *faults, *jobs)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// settings contains the settings that all runs of a soak share.
type settings struct {
	program, directory string
	systems            []system
	cluster            bool
}

// system contains environment variables for the private servers. They select the RabbitMQ and Redis programs to run.
type system []string

// soak runs all simulations that have no report yet. It then prints a summary of all simulations.
func (s *settings) soak(ctx context.Context, faults, jobs int) error {
	if err := os.MkdirAll(s.directory, 0o755); err != nil {
		return err
	}
	simulations := simulationsFor(faults)
	reports := make([]*report.Document, simulations)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(jobs)
	for i := range simulations {
		group.Go(func() (err error) {
			reports[i], err = s.simulate(ctx, i+1)
			if err == nil {
				fmt.Printf("simulation %d of %d: %s\n", i+1, simulations, reports[i].Outcome)
			}
			return err
		})
	}
	err := group.Wait()
	total := summary{pairs: map[string]map[string]*pair{}}
	for i, d := range reports {
		if d != nil {
			total.add(i+1, d)
		}
	}
	if printErr := total.print(os.Stdout); printErr != nil || err != nil {
		return errors.Join(err, printErr)
	}
	if len(total.reasons) > 0 {
		return fmt.Errorf("%d of %d simulations failed", len(total.reasons), simulations)
	}
	return nil
}

// simulationsFor returns how many simulations are needed to inject at least the given number of faults.
func simulationsFor(faults int) int {
	simulations := 0
	for planned := 0; planned < faults; planned += len(faultsOf(simulations)) {
		simulations++
	}
	return simulations
}

// simulate returns the report of the simulation with the given seed. If there is no report yet, it runs the simulation.
func (s *settings) simulate(ctx context.Context, seed int) (*report.Document, error) {
	directory := s.directory
	path := filepath.Join(directory, fmt.Sprintf("seed-%04d.json", seed))
	if d, err := report.ReadFile(path); err == nil {
		return d, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	manifest := filepath.Join(directory, fmt.Sprintf("seed-%04d.yaml", seed))
	if err := os.WriteFile(manifest, []byte(s.manifest(seed)), 0o644); err != nil {
		return nil, err
	}
	// The report gets its final name only when it is complete.
	partial := strings.TrimSuffix(path, ".json") + ".partial.json"
	run := s.onPrivateServers
	if s.cluster {
		run = s.onCluster
	}
	err := run(ctx, seed, manifest, partial)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	d, readErr := report.ReadFile(partial)
	if readErr != nil {
		return nil, fmt.Errorf("run the simulation with seed %d: %w: %w", seed, err, readErr)
	}
	return d, os.Rename(partial, path)
}

// onPrivateServers runs a simulation on private servers and writes its report. If the verdict is FAIL, it also returns
// an error.
func (s *settings) onPrivateServers(ctx context.Context, seed int, manifest, path string) error {
	cmd := exec.CommandContext(ctx, s.program, "simulate", "-f", manifest, "--servers", "private", "--http", "", "--report", path)
	cmd.Env = append(os.Environ(), s.systems[(seed-1)/2%len(s.systems)]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}

// onCluster runs a simulation in the cluster, and then downloads its report from the operator.
func (s *settings) onCluster(ctx context.Context, seed int, manifest, path string) error {
	name := "psim/" + nameOf(seed)
	for _, arguments := range [][]string{
		{"kubectl", "delete", name, "--ignore-not-found"}, // delete the simulation that an interrupted run has left behind
		{"kubectl", "create", "-f", manifest},
		{"kubectl", "wait", name, "--for", "condition=Complete", "--timeout", "30m"},
		{"kubectl-parking", "report", nameOf(seed), "-o", "json", "--output-file", path},
		{"kubectl", "delete", name},
	} {
		cmd := exec.CommandContext(ctx, arguments[0], arguments[1:]...)
		if arguments[0] == "kubectl-parking" {
			// The parking program acts as the kubectl plugin when it is started under the name kubectl-parking.
			cmd = exec.CommandContext(ctx, s.program, arguments[1:]...)
			cmd.Args[0] = arguments[0]
		}
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(arguments, " "), err, output)
		}
	}
	return nil
}

func nameOf(seed int) string { return fmt.Sprintf("soak-%d", seed) }

// faultsOf returns the faults of a simulation, such as "Redis Kill". An odd seed and the next even seed together
// cover every action on every target.
func faultsOf(seed int) []string {
	var all []string
	for _, target := range []string{"RabbitMQ", "RabbitMQLeader", "Redis", "SummaryAPI", "Processor", "EntryGenerator", "ExitGenerator"} {
		for _, action := range []string{"Kill", "Restart", "Evict", "Pause", "Isolate"} {
			all = append(all, target+" "+action)
		}
	}
	random := rand.New(rand.NewPCG(uint64((seed+1)/2), 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if seed%2 == 0 {
		return all[perSimulation:]
	}
	return all[:perSimulation]
}

// manifest returns the ParkingSimulation manifest for a seed.
func (s *settings) manifest(seed int) string {
	b := &strings.Builder{}
	at := first
	for i, pair := range faultsOf(seed) {
		target, action, _ := strings.Cut(pair, " ")
		fmt.Fprintf(b, "  - {name: fault-%d, target: %s, action: %s, at: %s", i, target, action, at)
		if action == "Pause" || action == "Isolate" {
			fmt.Fprintf(b, ", for: %s", faultDuration)
		}
		b.WriteString("}\n")
		if at += spacing; strings.HasPrefix(target, "RabbitMQ") {
			at += rabbitMQSpacing - spacing
		}
		if s.cluster {
			at += inCluster
		}
	}
	return fmt.Sprintf(`apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: %s}
spec:
  duration: %s
  seed: %d
  entry: {rate: 50, arrivals: Poisson}
  exit: {rate: 45, arrivals: Poisson, matchPercent: 80}
  rabbitmq: {partitions: 2}
  faults:
%s`, nameOf(seed), at+spacing, seed, b)
}

// summary combines the results of all simulations of the soak.
type summary struct {
	occurrences int
	seeds       []int
	reasons     []string // for each verdict other than PASS: the seed of the simulation, and why
	lost, twice int64
	// pairs contains the results of faults, by the versions of RabbitMQ and Redis, and then by target and action.
	pairs map[string]map[string]*pair
}

// pair combines the results of all faults with the same action and target.
type pair struct {
	occurrences, recovered int
	recoveries             []float64 // in seconds
	duplicates             int64
}

func (s *summary) add(seed int, d *report.Document) {
	s.seeds = append(s.seeds, seed)
	if d.Outcome != ledger.Pass {
		s.reasons = append(s.reasons, fmt.Sprintf("seed %d: %s", seed, strings.Join(d.Reasons, "; ")))
	}
	if d.Ledger != nil {
		s.lost += d.Ledger.Lost
		s.twice += d.Ledger.TakenTwice
	}
	servers := d.Environment.RabbitMQ + ", " + d.Environment.Redis
	if s.pairs[servers] == nil {
		s.pairs[servers] = map[string]*pair{}
	}
	for i := range d.Faults {
		s.occurrences++
		a := &d.Faults[i]
		name := string(a.Target) + " " + string(a.Action)
		p := s.pairs[servers][name]
		if p == nil {
			p = new(pair)
			s.pairs[servers][name] = p
		}
		p.occurrences++
		p.duplicates += a.DuplicatesSuppressed
		if a.Outcome == fault.OutcomeRecovered {
			p.recovered++
		}
		if a.RecoverySeconds != nil {
			p.recoveries = append(p.recoveries, *a.RecoverySeconds)
		}
	}
}

// print prints one Markdown table for each combination of server versions, and the reasons for verdicts that are not
// PASS.
func (s *summary) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "\n%d faults with the seeds %v: %d events were lost, %d were counted twice\n", s.occurrences, s.seeds, s.lost, s.twice)
	for _, servers := range slices.Sorted(maps.Keys(s.pairs)) {
		fmt.Fprintf(t, "\n%s\n\n", servers)
		fmt.Fprintln(t, "| fault\t| occurrences\t| recovered\t| median recovery\t| longest\t| duplicates suppressed\t|")
		fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|")
		for _, name := range slices.Sorted(maps.Keys(s.pairs[servers])) {
			p := s.pairs[servers][name]
			slices.Sort(p.recoveries)
			median, longest := "–", "–"
			if n := len(p.recoveries); n > 0 {
				median, longest = fmt.Sprintf("%.1f s", p.recoveries[n/2]), fmt.Sprintf("%.1f s", p.recoveries[n-1])
			}
			fmt.Fprintf(t, "| %s\t| %d\t| %d\t| %s\t| %s\t| %d\t|\n", name, p.occurrences, p.recovered, median, longest, p.duplicates)
		}
	}
	fmt.Fprintln(t, strings.Join(s.reasons, "\n"))
	return t.Flush()
}
