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

// suspendCommand returns the command "pause" if the parameter suspend is true, and the command "resume" otherwise.
func (p *Plugin) suspendCommand(suspend bool) *cobra.Command {
	output := outputFlag{allowed: []string{outputJSON, outputYAML, outputName}}
	cmd := &cobra.Command{
		Use:               "resume NAME...",
		Short:             "Start the generators of paused simulations again",
		Long:              "Start the generators of paused simulations again. The time of the pause counts towards spec.duration.",
		Args:              nameArgs(1, 0),
		ValidArgsFunction: p.CompleteNames(0),
	}
	if suspend {
		cmd.Use = "pause NAME..."
		cmd.Short = "Stop the generators of simulations"
		cmd.Long = "Stop the generators of simulations. The processors finish their work and keep running.\n'resume' starts the generators again."
	}
	cmd.RunE = p.connected(func(ctx context.Context, c *cluster, args []string) error {
		for _, name := range args {
			sim, err := c.suspend(ctx, name, suspend)
			if err != nil {
				return err
			}
			if output.isText() {
				_, err = fmt.Fprintf(p.Out, "%s/%s: spec.suspend is %t\n", c.namespace, name, suspend)
			} else {
				err = writeSimulation(p.Out, output.format, sim)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	output.register(cmd)
	return cmd
}

// suspend uses a patch, which requires no permission to read the simulation and does not conflict with other changes.
func (c *cluster) suspend(ctx context.Context, name string, suspend bool) (*v1alpha1.ParkingSimulation, error) {
	sim := &v1alpha1.ParkingSimulation{}
	sim.Namespace, sim.Name = c.namespace, name
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspend))
	if err := c.Patch(ctx, sim, patch, client.FieldOwner(fieldManager)); err != nil {
		return nil, c.explain(err, "patch simulation "+c.namespace+"/"+name, onSimulations("patch"))
	}
	return sim, nil
}
