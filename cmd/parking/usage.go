package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/field"
)

// enumeration is a flag value with a known set of values. Shells complete the values.
type enumeration interface {
	pflag.Value
	// values returns the valid values. A value that ends in "=" is a prefix.
	values() []string
}

// registerCompletions makes shells complete the values of a command's flags, if their types are enumerations.
func registerCompletions(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		value, ok := f.Value.(enumeration)
		if !ok {
			return
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if strings.HasSuffix(value.values()[0], "=") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		// This cannot fail, because the flag exists.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(value.values(), directive))
	})
}

// validateUsage makes root and its subcommands check their command lines and complete the values of flags. A command
// whose field Args is nil takes no arguments.
func validateUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(flagError)
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Args == nil {
			cmd.Args = onlyFlags
		}
		cmd.Args = cobra.MatchAll(noMisplacedURI, cmd.Args)
		registerCompletions(cmd)
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// onlyFlags returns an error if there are arguments or if a required flag is missing.
func onlyFlags(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 0 && cmd.HasAvailableSubCommands():
		return unknownCommand(cmd, args[0])
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %s", quote(args[0]))
	}
	var missing []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(f.Annotations[cobra.BashCompOneRequiredFlag], "true") && !f.Changed {
			placeholder, usage := pflag.UnquoteUsage(f)
			missing = append(missing, fmt.Sprintf("--%s %s is missing: %s", f.Name, strings.ToUpper(placeholder), usage))
		}
	})
	if len(missing) > 0 {
		return errors.New(strings.Join(missing, "; "))
	}
	return nil
}

// noMisplacedURI rejects a URI where something else is expected. It must run first, because a URI may contain a
// password that an error would quote.
func noMisplacedURI(cmd *cobra.Command, args []string) error {
	for _, arg := range args {
		if field.LooksLikeURI(arg) {
			return fmt.Errorf("unexpected argument %s: it looks like a URI", quote(arg))
		}
	}
	var misplaced error
	// Some inherited flags of kubectl, such as --server, accept URIs.
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		placeholder, _ := pflag.UnquoteUsage(f)
		if value := f.Value.String(); misplaced == nil && f.Changed && !slices.Contains([]string{"URI", "URL", "image"}, placeholder) && field.LooksLikeURI(value) {
			misplaced = fmt.Errorf("--%s: %s must be of the form %s; it looks like a URI", f.Name, quote(value), strings.ToUpper(placeholder))
			if placeholder == "file" {
				misplaced = fmt.Errorf("%w; download the file and give its path", misplaced)
			}
		}
	})
	return misplaced
}

// arguments returns a check that requires exactly one argument for each of the given names.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) > len(names):
			return fmt.Errorf("unexpected argument %s", quote(args[len(names)]))
		case len(args) < len(names):
			return fmt.Errorf("the argument %s is missing", names[len(args)])
		}
		return nil
	}
}

// quote quotes a value of the command line for an error message. It omits the value if it may be a URI with a
// password.
func quote(value string) string {
	if field.MayHoldPassword(value) {
		return "(hidden: it may contain a password)"
	}
	return strconv.Quote(value)
}

// unknownCommand returns an error for an unknown subcommand, and suggests a similar one.
func unknownCommand(cmd *cobra.Command, name string) error {
	if similar := cmd.SuggestionsFor(name); len(similar) > 0 {
		return fmt.Errorf("unknown command %s for %q: did you mean %q?", quote(name), cmd.CommandPath(), similar[0])
	}
	return fmt.Errorf("unknown command %s for %q", quote(name), cmd.CommandPath())
}

// similarFlag returns the flag with the most similar name. Otherwise, it returns the first flag whose name begins with
// the parameter name, or "".
func similarFlag(cmd *cobra.Command, name string) string {
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags = append(flags, f.Name)
		}
	})
	if similar := document.Closest(name, flags); similar != "" {
		return similar
	}
	if i := slices.IndexFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, name) }); i >= 0 {
		return flags[i]
	}
	return ""
}

// flagError replaces an error of package pflag with an error that says which values are expected.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return fmt.Errorf("unknown flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown) && field.MayHoldPassword(unknown.GetSpecifiedName()):
		return fmt.Errorf("unknown flag %s", quote(unknown.GetSpecifiedName()))
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if similar := similarFlag(cmd, name); similar != "" {
			return fmt.Errorf("unknown flag --%s: did you mean --%s?", name, similar)
		}
		return fmt.Errorf("unknown flag --%s", name)
	case errors.As(err, &valueless):
		return fmt.Errorf("--%s needs a value", valueless.GetFlag().Name)
	case errors.As(err, &invalid):
		value := invalid.GetValue()
		if invalid.GetFlag().Value.Type() == (thresholdFlags{}).Type() {
			value, _, _ = strings.Cut(value, "=") // if the value is METRIC=PERCENT, the error quotes only the metric
		}
		return fmt.Errorf("--%s: %s %w", invalid.GetFlag().Name, quote(value), expectation(invalid))
	}
	return err
}

// annotationRange is the annotation of a flag that says which values the flag accepts.
const annotationRange = "parking/range"

// expectation returns an error that says which values a flag accepts.
func expectation(e *pflag.InvalidValueError) error {
	switch e.GetFlag().Value.Type() {
	case "duration":
		return errors.New("must be a duration such as 30s or 1h30m")
	case "int", "int64":
		text := e.GetFlag().Annotations[annotationRange]
		switch {
		case !errors.Is(e, strconv.ErrRange):
			return errors.New("must be a whole number")
		case len(text) > 0:
			return errors.New(text[0])
		}
		return fmt.Errorf("must be a whole number up to %d", math.MaxInt64)
	case "float32", "float64":
		return errors.New("must be a number")
	case "bool":
		return errors.New("must be true or false")
	}
	return e.Unwrap()
}

// helpCommand returns the command "help", which prints the help of another command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Print the help of a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(help *cobra.Command, args []string) error {
			cmd, rest, err := help.Root().Find(args)
			switch {
			case err != nil:
				return err
			case len(rest) > 0:
				return unknownCommand(cmd, rest[0])
			}
			cmd.InitDefaultHelpFlag() // without this call, the help does not list the flag --help
			cmd.InitDefaultVersionFlag()
			return cmd.Help()
		},
	}
}
