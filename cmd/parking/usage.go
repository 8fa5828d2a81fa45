package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// explainUsage makes the root command and those below it refuse wrong command lines in words of their own:
// they name the flag or argument, and say what is expected. No command takes arguments.
func explainUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	var visit func(*cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.Args = onlyFlags
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

// onlyFlags refuses arguments, and the lack of a flag that is required.
func onlyFlags(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) > 0 && cmd.HasAvailableSubCommands():
		return noCommand(cmd, args[0])
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
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

// noCommand says that a command has no such command below it, and which was probably meant.
func noCommand(cmd *cobra.Command, name string) error {
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return fmt.Errorf("%s has no command %q: did you mean %q?", cmd.CommandPath(), name, near[0])
	}
	return fmt.Errorf("%s has no command %q", cmd.CommandPath(), name)
}

// flagError says what is wrong with a flag.
func flagError(err error) error {
	var unknown *pflag.NotExistError
	var valueless *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return fmt.Errorf("there is no flag -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		return fmt.Errorf("there is no flag --%s", unknown.GetSpecifiedName())
	case errors.As(err, &valueless):
		return fmt.Errorf("--%s needs a value", valueless.GetFlag().Name)
	case errors.As(err, &invalid):
		return fmt.Errorf("--%s: %q %w", invalid.GetFlag().Name, invalid.GetValue(), expectation(invalid))
	}
	return err
}

// expectation says what a flag's value has to be. Flags of this program's own types say so themselves.
func expectation(e *pflag.InvalidValueError) error {
	switch e.GetFlag().Value.Type() {
	case "duration":
		return errors.New("must be a duration such as 30s or 1h30m")
	case "int", "int64":
		return errors.New("must be a whole number")
	case "float32":
		return errors.New("must be a number")
	case "bool":
		return errors.New("must be true or false")
	}
	return e.Unwrap()
}

// helpCommand shows the help of the command that its arguments name.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Show the help of a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(help *cobra.Command, args []string) error {
			cmd, rest, err := help.Root().Find(args)
			switch {
			case err != nil:
				return err
			case len(rest) > 0:
				return noCommand(cmd, rest[0])
			}
			cmd.InitDefaultHelpFlag() // so that it is listed
			cmd.InitDefaultVersionFlag()
			return cmd.Help()
		},
	}
}
