// Command soak rehearses every action on every target, again and again, on a private RabbitMQ and a private Redis. It
// runs in pieces of some minutes, each with a seed of its own. A piece that has a report is not run again, so that a soak
// which was interrupted continues where it ended.
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
	"text/tabwriter"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/report"
)

const (
	// perPiece is the number of faults in one piece. A manifest has at most 20.
	perPiece = 18
	// first is when the first fault of a piece occurs, spacing the time from one fault to the next, and rest the time
	// after the last one. RabbitMQ takes up to 20 s to start, and recovery is measured for 5 s.
	first, spacing, rest = 15 * time.Second, 25 * time.Second, 30 * time.Second
	// lasts is how long pauses and isolations last.
	lasts = 5 * time.Second
)

func main() {
	faults := flag.Int("faults", 1000, "number of occurrences of faults, over all pieces")
	program := flag.String("parking", "bin/parking", "the program to rehearse with")
	folder := flag.String("folder", ".soak", "folder for the reports of the pieces")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := soak(ctx, *program, *folder, *faults)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak runs pieces until their reports have enough occurrences, and prints a summary of all reports.
func soak(ctx context.Context, program, folder string, faults int) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	s := summary{pairs: map[string]*pair{}}
	for seed := 1; s.occurrences < faults && ctx.Err() == nil; seed++ {
		d, err := piece(ctx, program, folder, seed)
		if err != nil {
			return errors.Join(err, s.print(os.Stdout))
		}
		s.add(seed, d)
		fmt.Printf("seed %d: %s, %d of %d faults so far\n", seed, d.Outcome, s.occurrences, faults)
	}
	if err := s.print(os.Stdout); err != nil {
		return err
	}
	if len(s.failed) > 0 {
		return fmt.Errorf("the verdict of the seeds %v is FAIL", s.failed)
	}
	return ctx.Err()
}

// piece returns the report of a piece, which it runs if there is none.
func piece(ctx context.Context, program, folder string, seed int) (*report.Document, error) {
	path := filepath.Join(folder, fmt.Sprintf("seed-%04d.json", seed))
	if d, err := report.ReadFile(path); err == nil {
		return d, nil
	}
	manifest := filepath.Join(folder, fmt.Sprintf("seed-%04d.yaml", seed))
	if err := os.WriteFile(manifest, []byte(manifestOf(seed)), 0o644); err != nil {
		return nil, err
	}
	// The report gets its name when it is complete.
	partial := strings.TrimSuffix(path, ".json") + ".partial.json"
	cmd := exec.CommandContext(ctx, program, "simulate", "-f", manifest, "--servers", "private", "--http", "", "--report", partial)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	d, readErr := report.ReadFile(partial)
	if readErr != nil {
		return nil, fmt.Errorf("run seed %d: %w: %w\n%s", seed, err, readErr, output)
	}
	return d, os.Rename(partial, path)
}

// manifestOf returns the manifest of a piece. Two pieces together have every action on every target.
func manifestOf(seed int) string {
	var all []string
	for _, target := range []string{"RabbitMQ", "RabbitMQLeader", "Redis", "SummaryAPI", "Processor", "EntryGenerator", "ExitGenerator"} {
		for _, action := range []string{"Kill", "Restart", "Evict", "Pause", "Isolate"} {
			all = append(all, target+" "+action)
		}
	}
	random := rand.New(rand.NewPCG(uint64((seed+1)/2), 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	half := all[:perPiece]
	if seed%2 == 0 {
		half = all[perPiece:]
	}
	b := &strings.Builder{}
	at := first
	for i, pair := range half {
		target, action, _ := strings.Cut(pair, " ")
		fmt.Fprintf(b, "  - {name: fault-%d, target: %s, action: %s, at: %s", i, target, action, at)
		if action == "Pause" || action == "Isolate" {
			fmt.Fprintf(b, ", for: %s", lasts)
		}
		b.WriteString("}\n")
		at += spacing
	}
	return fmt.Sprintf(`apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: soak-%d}
spec:
  duration: %s
  seed: %d
  entry: {rate: 200, arrivals: Poisson}
  exit: {rate: 180, arrivals: Poisson, matchPercent: 80}
  rabbitmq: {partitions: 2}
  faults:
%s`, seed, at-spacing+rest, seed, b)
}

// summary adds up the reports of a soak.
type summary struct {
	occurrences int
	seeds       []int
	failed      []int
	reasons     []string
	lost, twice int64
	versions    map[string]bool
	pairs       map[string]*pair
}

// pair sums up the occurrences of one action on one target.
type pair struct {
	outcomes   map[fault.Outcome]int
	recoveries []float64
	duplicates int64
}

func (s *summary) add(seed int, d *report.Document) {
	s.seeds = append(s.seeds, seed)
	if d.Outcome != ledger.Pass {
		s.failed = append(s.failed, seed)
		s.reasons = append(s.reasons, fmt.Sprintf("seed %d: %s", seed, strings.Join(d.Reasons, "; ")))
	}
	if d.Ledger != nil {
		s.lost += d.Ledger.Lost
		s.twice += d.Ledger.TakenTwice
	}
	if s.versions == nil {
		s.versions = map[string]bool{}
	}
	s.versions[d.Environment.RabbitMQ+", "+d.Environment.Redis] = true
	for i := range d.Faults {
		s.occurrences++
		a := &d.Faults[i]
		name := string(a.Target) + " " + string(a.Action)
		if s.pairs[name] == nil {
			s.pairs[name] = &pair{outcomes: map[fault.Outcome]int{}}
		}
		p := s.pairs[name]
		p.outcomes[a.Outcome]++
		p.duplicates += a.DuplicatesSuppressed
		if a.RecoverySeconds != nil {
			p.recoveries = append(p.recoveries, *a.RecoverySeconds)
		}
	}
}

// print prints a table in Markdown, and what failed.
func (s *summary) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "\n%d faults with the seeds %v on %s: lost %d, counted twice %d\n\n", s.occurrences, s.seeds,
		strings.Join(slices.Sorted(maps.Keys(s.versions)), "; "), s.lost, s.twice)
	fmt.Fprintln(t, "| fault\t| occurrences\t| recovered\t| median recovery\t| longest\t| duplicates suppressed\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, name := range slices.Sorted(maps.Keys(s.pairs)) {
		p := s.pairs[name]
		total := 0
		for _, n := range p.outcomes {
			total += n
		}
		slices.Sort(p.recoveries)
		median, longest := "–", "–"
		if n := len(p.recoveries); n > 0 {
			median, longest = fmt.Sprintf("%.1f s", p.recoveries[n/2]), fmt.Sprintf("%.1f s", p.recoveries[n-1])
		}
		fmt.Fprintf(t, "| %s\t| %d\t| %d\t| %s\t| %s\t| %d\t|\n", name, total, p.outcomes[fault.OutcomeRecovered], median, longest, p.duplicates)
	}
	for _, reason := range s.reasons {
		fmt.Fprintln(t, reason)
	}
	return t.Flush()
}
