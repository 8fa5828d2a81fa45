package kubectl

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// The function names checks the number of arguments of a command. The arguments are names of simulations. If most is
// 0, there is no upper limit.
func names(least, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return errors.New("NAME is missing")
		case most > 0 && len(args) > most:
			return fmt.Errorf("unexpected argument %q", args[most])
		}
		return nil
	}
}

// CompleteNames returns a function that completes the names of simulations in a shell. It completes at most maxArgs
// arguments, or any number if maxArgs is 0. If the cluster does not respond, it offers no names.
func (p *Plugin) CompleteNames(maxArgs int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const directive = cobra.ShellCompDirectiveNoFileComp
		if maxArgs > 0 && len(args) >= maxArgs {
			return nil, directive
		}
		c, err := p.connect()
		if err != nil {
			return nil, directive
		}
		list, err := c.simulations(cmd.Context(), c.namespace)
		if err != nil {
			return nil, directive
		}
		var names []cobra.Completion
		for i := range list.Items {
			if name := list.Items[i].Name; !slices.Contains(args, name) {
				names = append(names, name)
			}
		}
		return names, directive
	}
}
