package stack

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
)

// Options say which processes make up a stack.
type Options struct {
	// Binary is the path of the parking binary, Dir a folder for plan, database and logs.
	Binary string
	Dir    string
	// Plan is the path of the plan file.
	Plan string
	// Processors, EntryGenerators and ExitGenerators are numbers of processes.
	Processors, EntryGenerators, ExitGenerators int
}

// Stack is the processes of one simulation.
type Stack struct {
	Summaries  *Process
	Processors []*Process
	Entries    []*Process
	Exits      []*Process
}

// New prepares the processes; none runs yet. The address of the summary API is known at once, so that a
// plan can name it.
func New(o Options) (*Stack, error) {
	s := &Stack{}
	var errs []error
	process := func(name string, args ...string) *Process {
		p, err := newProcess(o.Binary, o.Dir, name, args...)
		errs = append(errs, err)
		return p
	}
	s.Summaries = process("summaries", "summaries", "--database", filepath.Join(o.Dir, "summaries.db"))
	for i := range o.Processors {
		s.Processors = append(s.Processors, process(fmt.Sprintf("process-%d", i), "process", "--plan", o.Plan))
	}
	for i := range o.EntryGenerators {
		s.Entries = append(s.Entries, process(fmt.Sprintf("entry-%d", i), "generate", "entry", "--plan", o.Plan))
	}
	for i := range o.ExitGenerators {
		s.Exits = append(s.Exits, process(fmt.Sprintf("exit-%d", i), "generate", "exit", "--plan", o.Plan))
	}
	return s, errors.Join(errs...)
}

// Generators are the processes that publish.
func (s *Stack) Generators() []*Process { return slices.Concat(s.Entries, s.Exits) }

// All are the processes in the order in which they are best started.
func (s *Stack) All() []*Process {
	return slices.Concat([]*Process{s.Summaries}, s.Processors, s.Generators())
}

// Start starts processes and waits until each is ready.
func Start(ctx context.Context, processes ...*Process) error {
	for _, p := range processes {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return WaitReady(ctx, processes...)
}

// WaitReady waits until each process is ready.
func WaitReady(ctx context.Context, processes ...*Process) error {
	for _, p := range processes {
		if err := p.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends every process of the stack at once.
func (s *Stack) Kill() error {
	var errs []error
	for _, p := range s.All() {
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

// Build builds the parking binary of this module into dir, with more flags for the build if any, and
// returns its path.
func Build(ctx context.Context, dir string, flags ...string) (string, error) {
	binary := filepath.Join(dir, "parking")
	args := append([]string{"build", "-o", binary}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, "github.com/parking-operator/parking-operator/cmd/parking")...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build parking: %w: %s", err, output)
	}
	return binary, nil
}
