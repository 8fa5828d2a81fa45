//go:build !nooperator

package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/kubectl"
)

const pluginHelp = `Watch and control the ParkingSimulations of a Kubernetes cluster, with your own permissions.

To install the kubectl plugin, link this binary into your PATH under the name
kubectl-parking. The second link adds shell completion:

  ln -s "$(command -v parking)" ~/bin/kubectl-parking
  ln -s "$(command -v parking)" ~/bin/kubectl_complete-parking

Exit codes:
  0    success, or the verdict is PASS
  1    something failed, the verdict is not PASS, or compare found a regression
  2    invalid input, an object that does not exist, or a missing permission`

// discardClientLogs discards the logs of the Kubernetes client libraries in this process.
func discardClientLogs() { kubectl.DiscardLogs() }

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
	plugin := kubectl.New(root, kubectl.Options{
		In: os.Stdin, Out: c.stdout, ErrOut: c.stderr, Version: currentBuild().version,
		OpenPage: func(ctx context.Context, url string) { openPage(ctx, c.stderr, url) },
	})
	root.AddCommand(plugin.Commands()...)
	root.AddCommand(c.pluginAuditCommand(plugin), c.pluginReportCommand(plugin), c.pluginCompareCommand(plugin))
	for _, cmd := range root.Commands() {
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return pluginError(run(cmd, args)) }
	}
	root.SetHelpCommand(helpCommand())
	root.SetVersionTemplate("{{.Version}}\n")
	// Most global flags are flags of kubectl. The help of each command refers to 'kubectl parking --help' for all of
	// them.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "Global Flags:\n{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}",
		"'kubectl parking --help' lists the flags that select the cluster, the user and the namespace (-n).", 1))
	validateUsage(root)
	return root
}

// pluginError marks an error of the kubectl plugin either as bad input or as a failure, which have different exit
// codes.
func pluginError(err error) error {
	var input *kubectl.InputError
	var marked *runError
	switch {
	case err == nil, errors.As(err, &marked):
		return err
	case errors.As(err, &input):
		return badInput(err)
	}
	return &runError{err: err}
}
