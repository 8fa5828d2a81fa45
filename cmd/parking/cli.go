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

	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// The exit codes. A signal that ends a process before its work is done adds more: 128 plus the signal number.
const (
	exitOK = iota
	exitFailed
	exitBadInput
)

// cli holds what all commands share.
type cli struct {
	stdout, stderr *os.File
	getenv         func(string) string
	beforeExit     exitHook

	name string // the name of the binary in the command line, without folders
}

func newCLI(stdout, stderr *os.File, getenv func(string) string) *cli {
	return &cli{stdout: stdout, stderr: stderr, getenv: getenv}
}

// exitHook holds one function to run before a second signal ends the process. It is safe for concurrent use.
type exitHook struct {
	mu sync.Mutex
	do func()
}

// set replaces the function. Nil means that there is nothing to do.
func (h *exitHook) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.do = do
}

// run calls the function.
func (h *exitHook) run() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.do != nil {
		h.do()
	}
}

// pluginName is the name under which kubectl finds the plugin, and completionName the one under which it finds the
// program that completes the plugin's command lines in shells.
const (
	pluginName     = "kubectl-parking"
	completionName = "kubectl_complete-parking"
)

// rootFor returns the commands of the kubectl plugin if the binary is called by its name, and those of parking
// otherwise.
func (c *cli) rootFor() *cobra.Command {
	if c.isPlugin() {
		if plugin := c.pluginCommand(); plugin != nil {
			return plugin
		}
	}
	return c.rootCommand()
}

// isPlugin reports whether kubectl has called the binary.
func (c *cli) isPlugin() bool { return c.name == pluginName || c.name == completionName }

// program returns the beginning of messages: the name by which the user has called the binary.
func (c *cli) program() string {
	if c.isPlugin() {
		return "kubectl parking"
	}
	return "parking"
}

// execute runs a command line and returns the exit code.
func execute(ctx context.Context, c *cli, args []string) int {
	root := c.rootFor()
	if c.name == completionName {
		args = append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	root.SetArgs(args)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var failed *runError
	var bySignal *signalError
	switch {
	case err == nil:
		return exitOK
	case !errors.As(err, &failed): // the command line itself is invalid
		c.printError(fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath()))
		return exitBadInput
	case errors.Is(err, context.Canceled) && errors.As(context.Cause(ctx), &bySignal):
		c.printError(bySignal)
		return bySignal.exitCode()
	case !errors.Is(err, errVerdict) && !errors.Is(err, errRegression):
		c.printError(err)
	}
	if failed.badInput {
		return exitBadInput
	}
	return exitFailed
}

// printError writes one line to stderr.
func (c *cli) printError(err error) {
	_, _ = fmt.Fprintln(c.stderr, c.program()+": "+excerpt.OneLine(err.Error())) // there is no other place to report it
}

// runError is an error of a command that has started. All other errors concern the command line.
type runError struct {
	err      error
	badInput bool
}

func (e *runError) Error() string { return e.err.Error() }

func (e *runError) Unwrap() error { return e.err }

// errVerdict ends a command that has printed the verdict FAIL.
var errVerdict = errors.New("the verdict is FAIL")

// badInput marks an error that the user can fix on the command line, in the environment, or in a file or an account
// that these name. It returns nil for nil.
func badInput(err error) error {
	if err == nil {
		return nil
	}
	return &runError{err: err, badInput: true}
}

// runs adapts f to cobra. It turns errors that are not marked as bad input into failures.
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

// interruptible returns what f returns, or the error of ctx as soon as ctx ends. It is for work that cannot be
// canceled, such as reading stdin. That work goes on in the background until the process exits.
func interruptible[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

const rootHelp = `parking runs event-driven parking simulations on RabbitMQ and Redis. It accounts for every
event, and reports at the end whether any event was lost or counted twice.

To start, run a whole simulation in this process, without servers or a cluster:

  parking simulate --duration 30s

Exit codes:
  0    success, or the verdict is PASS
  1    something failed, or the verdict is FAIL
  2    invalid input
  130  interrupted by Ctrl-C before the work was done (in general, 128 plus the signal number)`

func (c *cli) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "parking",
		Short:         "Run parking simulations on RabbitMQ and Redis, and account for every event",
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
		&cobra.Group{ID: groupSimulations, Title: "Simulations:"},
		&cobra.Group{ID: groupComponents, Title: "Components of a simulation, as they run in a cluster:"},
	)
	root.AddCommand(
		c.simulateCommand(), c.auditCommand(), c.reportCommand(), c.compareCommand(), c.purgeCommand(),
		c.generateCommand(), c.processCommand(), c.summariesCommand(), c.agentCommand(),
		c.versionCommand(),
	)
	root.AddCommand(c.operatorCommands()...)
	root.SetHelpCommand(helpCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	validateUsage(root)
	return root
}

// The groups of commands in the help text.
const (
	groupSimulations = "simulations"
	groupComponents  = "components"
)

// logLevel is a flag value: a log level by name.
type logLevel struct {
	slog.Level
}

// String implements pflag.Value.
func (l *logLevel) String() string { return strings.ToLower(l.Level.String()) }

// Set implements pflag.Value.
func (l *logLevel) Set(s string) error {
	switch strings.ToLower(s) {
	case "debug", "info", "warn", "error":
		return l.UnmarshalText([]byte(s))
	}
	return errors.New("must be debug, info, warn or error")
}

// Type implements pflag.Value. It is the placeholder in help texts.
func (l *logLevel) Type() string { return "level" }

// logger returns a logger on stderr: text on a terminal, JSON elsewhere.
func (c *cli) logger(level slog.Level) *slog.Logger { return c.loggerTo(c.stderr, level) }

// loggerTo is logger with another writer. The format still depends on stderr.
func (c *cli) loggerTo(w io.Writer, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if terminal.Is(c.stderr) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
