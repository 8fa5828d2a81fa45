package kubectl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// suspendCommand returns the command "pause", or "resume" if suspend is false.
func (p *plugin) suspendCommand(suspend bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume NAME",
		Short: "Start the generators of a paused simulation again",
		Args:  cobra.ExactArgs(1),
	}
	if suspend {
		cmd.Use = "pause NAME"
		cmd.Short = "Stop the generators of a simulation; processors finish their work and stay"
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := p.connect()
		if err != nil {
			return err
		}
		if err := c.suspend(cmd.Context(), args[0], suspend); err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.out, "simulation %s/%s: spec.suspend is %t\n", c.namespace, args[0], suspend)
		return err
	}
	return cmd
}

// suspend sets spec.suspend of a simulation. A patch needs no right to read the simulation, and does not conflict with
// other changes.
func (c *connection) suspend(ctx context.Context, name string, suspend bool) error {
	sim := &v1alpha1.ParkingSimulation{}
	sim.Namespace, sim.Name = c.namespace, name
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspend))
	if err := c.Patch(ctx, sim, patch, client.FieldOwner("kubectl-parking")); err != nil {
		return fmt.Errorf("patch simulation %s/%s: %w", c.namespace, name, explain(err, v1alpha1.Group, simulations, "patch"))
	}
	return nil
}
