package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/terminal"
)

// The exit codes, beside those of a process that a signal ended.
const (
	exitOK = iota
	exitFailed
	exitBadInput
)

// cli is what the commands share: where they write, the environment, and what is to be done when the
// process has to end at once.
type cli struct {
	stdout, stderr *os.File
	getenv         func(string) string
	ending         ending
}

func newCLI(stdout, stderr *os.File, getenv func(string) string) *cli {
	return &cli{stdout: stdout, stderr: stderr, getenv: getenv}
}

// ending is what is to be done when the process has to end at once. It is safe for concurrent use.
type ending struct {
	mu sync.Mutex
	do func()
}

// set replaces what is to be done; nil means nothing.
func (e *ending) set(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.do = do
}

// now does it.
func (e *ending) now() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.do != nil {
		e.do()
	}
}

// execute runs a command line and returns the exit code.
func execute(ctx context.Context, c *cli, args []string) int {
	root := c.rootCommand()
	root.SetArgs(args)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var ended *runError
	var bySignal *signalError
	switch {
	case err == nil:
		return exitOK
	case !errors.As(err, &ended): // the command line itself was refused
		c.complain(fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath()))
		return exitBadInput
	case errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &bySignal):
		c.complain(bySignal)
		return bySignal.exitCode()
	case !errors.Is(err, errVerdict):
		c.complain(err)
	}
	if ended.badInput {
		return exitBadInput
	}
	return exitFailed
}

// complain writes the one line that says what went wrong.
func (c *cli) complain(err error) {
	_, _ = fmt.Fprintln(c.stderr, "parking: "+oneLine(err)) // there is nowhere else to say it
}

// oneLine is an error's message without line breaks.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// runError is how a command ended.
type runError struct {
	err      error
	badInput bool
}

func (e *runError) Error() string { return e.err.Error() }

func (e *runError) Unwrap() error { return e.err }

// errVerdict ends a command whose verdict is FAIL and has been shown.
var errVerdict = errors.New("the verdict is FAIL")

// badInput marks an error that the user can mend on the command line or in a file that it names.
func badInput(err error) error {
	if err == nil {
		return nil
	}
	return &runError{err: err, badInput: true}
}

// runs makes a command's work out of f. Its errors are failures unless they are marked as bad input.
func runs(f func(ctx context.Context) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		err := f(cmd.Context())
		var marked *runError
		if err == nil || errors.As(err, &marked) {
			return err
		}
		return &runError{err: err}
	}
}

const rootHelp = `parking runs event-driven parking simulations on RabbitMQ and Redis, accounts for every
event, and says at the end whether anything was lost or counted twice.

Start here: a whole simulation in this process, without a server or a cluster:

  parking simulate --duration 30s

The other commands are the parts of a simulation, as they run in a cluster.

Exit codes: 0 all went well, or the verdict is PASS; 1 something failed, or the verdict is FAIL;
2 bad input; 130 ended by Ctrl-C before the work was done (128 and the number of the signal).`

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "parking",
		Short:         "Simulate car parks to exercise RabbitMQ, Redis and Prometheus, accounted to the last event",
		Long:          rootHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       versionLine(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
	}
	root.AddGroup(
		&cobra.Group{ID: groupWhole, Title: "A whole simulation:"},
		&cobra.Group{ID: groupParts, Title: "Its parts:"},
	)
	root.AddCommand(
		c.simulateCommand(), c.auditCommand(), c.purgeCommand(),
		c.generateCommand(), c.processCommand(), c.summariesCommand(),
		c.versionCommand(),
	)
	root.AddCommand(c.operatorCommands()...)
	root.SetHelpCommand(helpCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	explainUsage(root)
	return root
}

// The groups of commands in the help text.
const (
	groupWhole = "whole"
	groupParts = "parts"
)

// logLevel is a flag that takes a level by name.
type logLevel struct {
	slog.Level
}

// String, Set and Type make it a flag.
func (l *logLevel) String() string { return strings.ToLower(l.Level.String()) }

// Set reads a level.
func (l *logLevel) Set(s string) error {
	switch strings.ToLower(s) {
	case "debug", "info", "warn", "error":
		return l.UnmarshalText([]byte(s))
	}
	return errors.New("must be debug, info, warn or error")
}

// Type is the flag's placeholder in help texts.
func (l *logLevel) Type() string { return "level" }

// logger writes text for people on a terminal, and JSON for machines elsewhere.
func (c *cli) logger(level slog.Level) *slog.Logger { return c.loggerTo(c.stderr, level) }

// loggerTo writes to something that shows it on stderr.
func (c *cli) loggerTo(w io.Writer, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if terminal.Is(c.stderr) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
