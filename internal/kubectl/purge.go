package kubectl

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/flagvalue"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

const purgeHelp = `Delete a simulation and everything that belongs to it: its pods, its managed servers with their
data, its report, and its queues and keys on external servers, even if spec.deletionPolicy is Retain.

The operator removes the queues and keys. The command waits for the operator, and fails if queues or
keys may remain.`

type purgeFlags struct {
	output  outputFlag
	yes     bool
	timeout flagvalue.Duration
}

func (p *Plugin) purgeCommand() *cobra.Command {
	f := purgeFlags{output: outputFlag{allowed: []string{outputName}}, timeout: flagvalue.NewDuration(5 * time.Minute)}
	cmd := &cobra.Command{
		Use:               "purge NAME",
		Short:             "Delete a simulation with its queues, keys and report",
		Long:              purgeHelp,
		Example:           "  kubectl parking purge rush-hour --yes",
		Args:              nameArgs(1, 1),
		ValidArgsFunction: p.CompleteNames(1),
		RunE: p.connected(func(ctx context.Context, c *cluster, args []string) error {
			return p.purge(ctx, c, args[0], f)
		}),
	}
	f.output.register(cmd)
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask for confirmation")
	cmd.Flags().Var(&f.timeout, "timeout", "time to wait for the end of the deletion")
	return cmd
}

func (p *Plugin) purge(ctx context.Context, c *cluster, name string, f purgeFlags) error {
	if f.timeout.Duration <= 0 {
		return inputErrorf("--timeout: must be above 0s, got %s", f.timeout)
	}
	sim, err := c.simulation(ctx, name)
	if err != nil {
		return err
	}
	if !f.yes {
		if err := p.confirm(sim); err != nil {
			return err
		}
	}
	if err := c.deleteWithData(ctx, sim); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout.Duration)
	defer cancel()
	if err := c.awaitGone(ctx, sim); err != nil {
		return err
	}
	switch message, err := c.leftBehind(ctx, sim); {
	case err != nil:
		p.notef("it is unknown whether the operator removed all data: %s\n", err)
	case message != "":
		return errors.New(message)
	}
	message := fmt.Sprintf("%s/%s is purged", sim.Namespace, sim.Name)
	if f.output.format == outputName {
		message = qualifiedName(sim.Name)
	}
	_, err = fmt.Fprintln(p.Out, message)
	return err
}

func (p *Plugin) confirm(sim *v1alpha1.ParkingSimulation) error {
	if !terminal.Is(p.In) {
		return inputErrorf("purge deletes %s/%s with its data for good: confirm with --yes", sim.Namespace, sim.Name)
	}
	p.notef("Delete %s/%s with its queues, keys and report for good? [y/N] ", sim.Namespace, sim.Name)
	answer, err := bufio.NewReader(p.In).ReadString('\n')
	if err != nil {
		return inputErrorf("read the confirmation: %w", err)
	}
	if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
		return inputErrorf("the deletion of %s/%s was not confirmed: nothing was deleted", sim.Namespace, sim.Name)
	}
	return nil
}

// deleteWithData deletes a simulation. Before that, it sets the deletion policy to Delete, so that the operator also
// removes the simulation's data from external servers.
func (c *cluster) deleteWithData(ctx context.Context, sim *v1alpha1.ParkingSimulation) error {
	doing := sim.Namespace + "/" + sim.Name
	if sim.Spec.DeletionPolicy == v1alpha1.DeletionPolicyRetain {
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"deletionPolicy":%q}}`, v1alpha1.DeletionPolicyDelete))
		if err := c.Patch(ctx, sim.DeepCopy(), patch, client.FieldOwner(fieldManager)); err != nil {
			return c.explain(err, "patch simulation "+doing, onSimulations("patch"))
		}
	}
	if err := client.IgnoreNotFound(c.Delete(ctx, sim, client.Preconditions{UID: &sim.UID})); err != nil {
		return c.explain(err, "delete simulation "+doing, onSimulations("delete"))
	}
	return nil
}

// awaitGone waits until a simulation no longer exists. A new simulation with the same name does not count.
func (c *cluster) awaitGone(ctx context.Context, sim *v1alpha1.ParkingSimulation) error {
	for {
		now := &v1alpha1.ParkingSimulation{}
		err := c.Get(ctx, client.ObjectKeyFromObject(sim), now)
		switch {
		case apierrors.IsNotFound(err), err == nil && now.UID != sim.UID:
			return nil
		case err != nil && ctx.Err() == nil:
			return c.explain(err, "wait for the deletion of "+sim.Namespace+"/"+sim.Name, onSimulations("get"))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("wait for the deletion of %s/%s: %w; the deletion continues if the operator is running", sim.Namespace, sim.Name, context.Cause(ctx))
		}
	}
}

// leftBehind returns a message from Kubernetes events about data that the operator could not remove, or "" if all data
// was removed.
func (c *cluster) leftBehind(ctx context.Context, sim *v1alpha1.ParkingSimulation) (string, error) {
	list := &corev1.EventList{}
	if err := c.List(ctx, list, client.InNamespace(sim.Namespace), client.MatchingFields{"involvedObject.uid": string(sim.UID)}); err != nil {
		return "", c.explain(err, "list the events of "+sim.Namespace+"/"+sim.Name, onCore("events", "list"))
	}
	for i := range list.Items {
		if e := &list.Items[i]; e.Reason == "CleanupAbandoned" {
			return e.Message, nil
		}
	}
	return "", nil
}
