//go:build !nooperator

package main

import (
	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/kubectl"
)

const pluginHelp = `Watch and control the ParkingSimulations of a Kubernetes cluster, with your own rights.

To install it as a kubectl plugin, link this binary into your PATH under the name
kubectl-parking:

  ln -s "$(command -v parking)" ~/bin/kubectl-parking`

// pluginCommand returns the root command of the kubectl plugin.
func (c *cli) pluginCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "kubectl-parking",
		Short:             "Watch and control the ParkingSimulations of a Kubernetes cluster",
		Long:              pluginHelp,
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl parking"},
		SilenceErrors:     true,
		SilenceUsage:      true,
		Version:           versionLine(),
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	kubectl.AddTo(root, c.stdout)
	for _, cmd := range root.Commands() {
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return &runError{err: err}
			}
			return nil
		}
	}
	root.SetHelpCommand(helpCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	validateUsage(root)
	return root
}
