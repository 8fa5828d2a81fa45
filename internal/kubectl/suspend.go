package kubectl

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// fieldManager is the plugin's name in the managed fields of the objects that it changes.
const fieldManager = "kubectl-parking"

// suspendCommand returns the command "pause" if suspend is true, and the command "resume" otherwise.
func (p *Plugin) suspendCommand(suspend bool) *cobra.Command {
	output := outputFlag{allowed: []string{outputName}}
	cmd := &cobra.Command{
		Use:               "resume NAME...",
		Short:             "Start the generators of paused simulations again",
		Long:              "Start the generators of paused simulations again. The time in between counts towards spec.duration.",
		Args:              names(1, 0),
		ValidArgsFunction: p.CompleteNames(0),
	}
	if suspend {
		cmd.Use = "pause NAME..."
		cmd.Short = "Stop the generators of simulations"
		cmd.Long = "Stop the generators of simulations. The processors finish their work and keep running.\n'resume' starts the generators again."
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := p.connect()
		if err != nil {
			return err
		}
		for _, name := range args {
			if err := c.suspend(cmd.Context(), name, suspend); err != nil {
				return err
			}
			message := fmt.Sprintf("%s/%s: spec.suspend is %t", c.namespace, name, suspend)
			if output.format == outputName {
				message = qualifiedName(name)
			}
			if _, err = fmt.Fprintln(p.Out, message); err != nil {
				return err
			}
		}
		return nil
	}
	output.register(cmd)
	return cmd
}

// suspend sets spec.suspend of a simulation with a patch. A patch does not require permission to read the
// simulation, and does not conflict with other changes.
func (c *connection) suspend(ctx context.Context, name string, suspend bool) error {
	sim := &v1alpha1.ParkingSimulation{}
	sim.Namespace, sim.Name = c.namespace, name
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspend))
	if err := c.Patch(ctx, sim, patch, client.FieldOwner(fieldManager)); err != nil {
		return c.explain(err, "patch simulation "+c.namespace+"/"+name, onSimulations("patch"))
	}
	return nil
}
