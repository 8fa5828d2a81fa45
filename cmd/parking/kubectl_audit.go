//go:build !nooperator

package main

import (
	"github.com/spf13/cobra"

	"github.com/parking-operator/parking-operator/internal/kubectl"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
)

const pluginAuditHelp = `Print the ledger of a simulation, its verdict and the identifiers of lost events.

The ledger of a complete simulation is in its report. While a simulation runs, the ledger comes
from a processor pod, through the API server. Without the right to forward a port, it comes from
the status. An event that is on its way may still take effect: nothing is proved before the end, and
the verdict is FAIL.

Exit codes:
  0    the verdict is PASS
  1    the verdict is FAIL, or something failed
  2    invalid input`

// pluginAuditCommand returns the command that audits a simulation in the cluster.
func (c *cli) pluginAuditCommand(plugin *kubectl.Plugin) *cobra.Command {
	output := outputTable
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
			if err := c.printAudit(output, &plan.Plan{Objectives: a.Objectives}, result); err != nil {
				return err
			}
			if result.Outcome != ledger.Pass {
				return errVerdict
			}
			return nil
		},
	}
	cmd.Flags().VarP(&output, "output", "o", "output format: table or json")
	return cmd
}
