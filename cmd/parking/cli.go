package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// These are the exit codes. If a signal ends a process before its work is complete, the exit code is 128 plus the
// signal number.
const (
	exitOK = iota
	exitFailed
	exitBadInput
)

// cli contains the outputs, the environment and the state that all commands share.
type cli struct {
	stdout, stderr *os.File
	getenv         func(string) string
	beforeExit     exitHook

	name string // the name of the binary in the command line, without directories
}

func newCLI(stdout, stderr *os.File, getenv func(string) string) *cli {
	return &cli{stdout: stdout, stderr: stderr, getenv: getenv}
}

// exitHook holds a function that is called before a second signal ends the process. It is safe for concurrent use.
type exitHook struct {
	mu sync.Mutex
	do func() // nil if no function is set
}

func (h *exitHook) set(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.do = do
}

func (h *exitHook) run() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.do != nil {
		h.do()
	}
}

// pluginName is the name by which kubectl finds the plugin. completionName is the name of the program that kubectl
// calls to complete command lines of the plugin.
const (
	pluginName     = "kubectl-parking"
	completionName = "kubectl_complete-parking"
)

// rootFor returns the root command for the name of the binary.
func (c *cli) rootFor() *cobra.Command {
	if c.isPlugin() {
		if plugin := c.pluginCommand(); plugin != nil {
			return plugin
		}
	}
	return c.rootCommand()
}

func (c *cli) isPlugin() bool { return c.name == pluginName || c.name == completionName }

// program returns the name of the program for messages. It is "kubectl parking" for the plugin, and "parking"
// otherwise.
func (c *cli) program() string {
	if c.isPlugin() {
		return "kubectl parking"
	}
	return "parking"
}

func execute(ctx context.Context, c *cli, args []string) int {
	root := c.rootFor()
	if c.name == completionName {
		args = append([]string{cobra.ShellCompRequestCmd}, args...)
	}
	root.SetArgs(args)
	help := &helpWriter{file: c.stdout}
	root.SetOut(help)
	root.SetErr(c.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if lost := cmp.Or(help.err, c.outputError(err)); lost != nil {
		c.printError(lost)
		return exitFailed
	}
	var failed *runError
	var bySignal *signalError
	switch {
	case err == nil:
		return exitOK
	case !errors.As(err, &failed): // the command line is invalid
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

// outputError returns err if err is the error of a failed write to stdout, and nil otherwise.
func (c *cli) outputError(err error) error {
	if failed, ok := errors.AsType[*fs.PathError](err); ok && failed.Op == "write" && failed.Path == c.stdout.Name() {
		return err
	}
	return nil
}

// helpWriter writes the output of cobra, such as the help, to stdout. It keeps the first write error, because cobra
// ignores write errors.
type helpWriter struct {
	file *os.File
	err  error
}

// Write implements io.Writer.
func (w *helpWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.err = cmp.Or(w.err, err)
	return n, err
}

func (c *cli) printError(err error) {
	// Ignore the error, because nothing can report a broken stderr.
	_, _ = fmt.Fprintln(c.stderr, c.program()+": "+terminal.Clean(excerpt.OneLine(err.Error())))
}

// runError is an error that occurred after a command had started its work.
type runError struct {
	err      error
	badInput bool
}

func (e *runError) Error() string { return e.err.Error() }

func (e *runError) Unwrap() error { return e.err }

// errVerdict is the error of a command that has already printed the verdict FAIL.
var errVerdict = errors.New("the verdict is FAIL")

// badInput marks an error that the user can fix, unless its cause is too many open files. It returns nil for nil.
func badInput(err error) error {
	if err == nil {
		return nil
	}
	return &runError{err: err, badInput: binding.ExplainFiles(err) == ""}
}

// badInputUnlessNotReady marks an error as bad input, except for ErrNotReady, which can occur with correct input.
func badInputUnlessNotReady(err error) error {
	for _, notReady := range []error{broker.ErrNotReady, store.ErrNotReady, summary.ErrNotReady} {
		if errors.Is(err, notReady) {
			return err
		}
	}
	return badInput(err)
}

// listenError marks an error of an HTTP listener as bad input, and appends a remedy.
func listenError(err error, remedy string) error {
	if files := binding.ExplainFiles(err); files != "" {
		remedy = files // too many files are open, so choosing another address would not help
	}
	return badInput(fmt.Errorf("%w; %s", err, remedy))
}

// runs adapts f to the signature that cobra requires. It wraps errors of f in a *runError.
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

// interruptible calls f, which cannot be canceled. If ctx ends first, it returns at once, and f continues in the
// background.
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
		c.simulateCommand(), c.reportCommand(), c.compareCommand(), c.planCommand(), c.agentCommand(), c.versionCommand(),
	)
	root.AddCommand(c.serverCommands()...)
	root.AddCommand(c.operatorCommands()...)
	root.SetHelpCommand(helpCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	validateUsage(root)
	return root
}

// These are the groups of commands in the help text.
const (
	groupSimulations = "simulations"
	groupComponents  = "components"
)

// logLevel is a flag value: the name of a log level.
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

// values returns the valid values, for completion in shells.
func (*logLevel) values() []string { return []string{"debug", "info", "warn", "error"} }

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (l *logLevel) Type() string { return "level" }

// logger returns a logger that writes to stderr. The format is text if stderr is a terminal, and JSON otherwise.
func (c *cli) logger(level slog.Level) *slog.Logger { return c.loggerTo(c.stderr, level) }

// loggerTo is like logger, but writes to w. The writer w must pass the log on to stderr.
func (c *cli) loggerTo(w io.Writer, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if terminal.Is(c.stderr) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
