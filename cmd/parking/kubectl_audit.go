//go:build !nooperator

package main

import (
	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/kubectl"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

const pluginAuditHelp = `Print the ledger of a simulation, its verdict and the identifiers of lost events.

The ledger of a complete simulation is in its report. While a simulation runs, the ledger comes
from a processor pod, through the API server. Without the right to forward a port, it comes from
the status. The verdict is FAIL while the simulation runs.

Exit codes:
  0    the verdict is PASS
  1    the verdict is FAIL, or something failed
  2    invalid input, an object that does not exist, or a missing permission`

func (c *cli) pluginAuditCommand(plugin *kubectl.Plugin) *cobra.Command {
	output := formatFlag{formatTable, []reportFormat{formatTable, formatJSON, formatYAML}}
	cmd := &cobra.Command{
		Use:               "audit NAME",
		Short:             "Print the ledger and the verdict of a simulation, and name lost events",
		Long:              pluginAuditHelp,
		Example:           "  kubectl parking audit nightly",
		Args:              arguments("NAME"),
		ValidArgsFunction: plugin.CompleteNames(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := plugin.Audit(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			result := auditResult{
				Verdict: a.Verdict, Simulation: a.Simulation, Ledger: a.Ledger, LatencySeconds: a.Latencies, Running: a.Running, Notes: a.Notes,
			}
			if output.format == formatYAML {
				err = kubectl.WriteYAML(c.stdout, result)
			} else {
				err = c.printAudit(outputFormat(output.format), result)
			}
			if err != nil {
				return err
			}
			if result.Outcome != ledger.Pass {
				return errVerdict
			}
			return nil
		},
	}
	cmd.Flags().VarP(&output, outputFlag, "o", "output format: "+output.choices())
	return cmd
}
