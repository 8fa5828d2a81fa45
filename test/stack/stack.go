package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
)

// Options configures the processes and the files of a Stack.
type Options struct {
	// Binary is the path of the parking binary. Dir is the directory for the SQLite file and for the logs.
	Binary string
	Dir    string
	// DatabaseURI is the URI of the PostgreSQL database of the summary API. If it is empty, the database is an SQLite
	// file in Dir.
	DatabaseURI string
	// SummaryAPIs is the number of summary APIs. It defaults to 1. Several summary APIs need a PostgreSQL database.
	SummaryAPIs int
	// Plan is the path of the plan file. ProcessorPlan is the path of the plan file for the processors. It defaults to
	// Plan.
	Plan, ProcessorPlan string
	// Processors, EntryGenerators and ExitGenerators are the numbers of processes of these components.
	Processors, EntryGenerators, ExitGenerators int
}

// Stack contains the processes of one simulation.
type Stack struct {
	// Summaries is the first summary API. SummaryReplicas contains the others, which use the same database.
	Summaries       *Process
	SummaryReplicas []*Process

	Processors []*Process
	Entries    []*Process
	Exits      []*Process
}

// gracePeriod is how long processes may take to stop. It is long enough for a busy machine.
const gracePeriod = "2m"

// New returns a stack that is not started. The addresses of the summary APIs are already known.
func New(o Options) (*Stack, error) {
	s := &Stack{}
	var errs []error
	process := func(name string, args ...string) *Process {
		p, err := NewProcess(o.Binary, o.Dir, name, args...)
		errs = append(errs, err)
		return p
	}
	database := []string{"--database", filepath.Join(o.Dir, "summaries.db")}
	if o.DatabaseURI != "" {
		database = []string{"--database-uri", o.DatabaseURI}
	}
	summaries := append([]string{"summaries"}, database...)
	s.Summaries = process("summaries", summaries...)
	for i := 1; i < o.SummaryAPIs; i++ {
		s.SummaryReplicas = append(s.SummaryReplicas, process(fmt.Sprintf("summaries-%d", i), summaries...))
	}
	for i := range o.Processors {
		s.Processors = append(s.Processors, process(fmt.Sprintf("process-%d", i), "process", "--plan", cmp.Or(o.ProcessorPlan, o.Plan), "--grace-period", gracePeriod))
	}
	for i := range o.EntryGenerators {
		s.Entries = append(s.Entries, process(fmt.Sprintf("entry-%d", i), "generate", "entry", "--plan", o.Plan, "--grace-period", gracePeriod))
	}
	for i := range o.ExitGenerators {
		s.Exits = append(s.Exits, process(fmt.Sprintf("exit-%d", i), "generate", "exit", "--plan", o.Plan, "--grace-period", gracePeriod))
	}
	return s, errors.Join(errs...)
}

// Generators returns the entry and exit generators.
func (s *Stack) Generators() []*Process { return slices.Concat(s.Entries, s.Exits) }

// SummaryAPIs returns all summary APIs.
func (s *Stack) SummaryAPIs() []*Process {
	return append([]*Process{s.Summaries}, s.SummaryReplicas...)
}

// All returns all processes in the order in which they must be started.
func (s *Stack) All() []*Process {
	return slices.Concat(s.SummaryAPIs(), s.Processors, s.Generators())
}

// Start starts the given processes and waits until all of them are ready.
func Start(ctx context.Context, processes ...*Process) error {
	for _, p := range processes {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return WaitReady(ctx, processes...)
}

// WaitReady waits until all given processes are ready.
func WaitReady(ctx context.Context, processes ...*Process) error {
	for _, p := range processes {
		if err := p.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill sends SIGKILL to every process of the stack.
func (s *Stack) Kill() error {
	var errs []error
	for _, p := range s.All() {
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

// Build builds the parking binary into dir, with additional flags for go build, and returns its path.
func Build(ctx context.Context, dir string, flags ...string) (string, error) {
	binary := filepath.Join(dir, "parking")
	args := append([]string{"build", "-o", binary}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/parking-operator/parking-operator/cmd/parking")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build parking: %w: %s", err, output)
	}
	return binary, nil
}
