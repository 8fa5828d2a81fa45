package kubectl

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
)

// nameArgs returns a check of arguments. Each argument must be a valid name of a simulation. The parameters least and
// most limit the number of arguments. If most is 0, there is no maximum.
func nameArgs(least, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return errors.New("the argument NAME is missing")
		case most > 0 && len(args) > most:
			return fmt.Errorf("unexpected argument %q", args[most])
		}
		for _, name := range args {
			if err := checkName(name); err != nil {
				return err
			}
		}
		return nil
	}
}

// checkName returns an error if a text cannot be the name of a simulation.
func checkName(name string) error {
	if len(validation.IsDNS1123Subdomain(name)) > 0 {
		return inputErrorf("%q is not the name of a simulation", name)
	}
	return nil
}

// CompleteNames completes the names of simulations in a shell, for at most maxArgs arguments. If maxArgs is 0, the
// number is unlimited.
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
