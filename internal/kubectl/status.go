package kubectl

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func (p *plugin) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status NAME",
		Short: "Show the conditions, pods, ledger and verdict of a simulation",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.connect()
			if err != nil {
				return err
			}
			sim, err := c.simulation(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			pods, podsErr := c.pods(cmd.Context(), sim)
			return writeStatus(p.out, sim, pods, podsErr)
		},
	}
}

// pods returns the pods of a simulation, sorted by name.
func (c *connection) pods(ctx context.Context, sim *v1alpha1.ParkingSimulation) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := c.List(ctx, &list, client.InNamespace(sim.Namespace), client.MatchingLabels{resources.SimulationLabel: sim.Name})
	if err != nil {
		return nil, explain(err, "", "pods", "list")
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, nil
}

// writeStatus writes the state of a simulation. If its pods could not be listed, it writes podsErr in their place.
func writeStatus(out io.Writer, sim *v1alpha1.ParkingSimulation, pods []corev1.Pod, podsErr error) error {
	const padding = 2
	w := tabwriter.NewWriter(out, 0, 0, padding, ' ', 0)
	fmt.Fprintf(w, "Simulation:\t%s/%s\n", sim.Namespace, sim.Name)
	fmt.Fprintf(w, "Suspended:\t%t\n", sim.Spec.Suspend)
	if t := sim.Status.TargetRates; t != nil {
		fmt.Fprintf(w, "Target rates:\t%d entries/s, %d exits/s\n", t.Entry, t.Exit)
	}
	if v := sim.Status.Verdict; v != "" {
		fmt.Fprintf(w, "Verdict:\t%s\n", v)
	}
	for _, reason := range sim.Status.Reasons {
		fmt.Fprintf(w, "\t- %s\n", reason)
	}
	fmt.Fprint(w, "\nCONDITION\tSTATUS\tREASON\tMESSAGE\n")
	for i := range sim.Status.Conditions {
		c := &sim.Status.Conditions[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	writePods(w, pods, podsErr)
	writeLedger(w, sim.Status.Ledger)
	return w.Flush()
}

func writePods(w io.Writer, pods []corev1.Pod, podsErr error) {
	if podsErr != nil {
		fmt.Fprintf(w, "\nThe pods cannot be listed: %s\n", podsErr)
		return
	}
	fmt.Fprint(w, "\nPOD\tCOMPONENT\tPHASE\tREADY\tRESTARTS\n")
	for i := range pods {
		pod := &pods[i]
		var ready, restarts int32
		for j := range pod.Status.ContainerStatuses {
			container := &pod.Status.ContainerStatuses[j]
			restarts += container.RestartCount
			if container.Ready {
				ready++
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d/%d\t%d\n", pod.Name, pod.Labels[resources.ComponentLabel], pod.Status.Phase,
			ready, len(pod.Spec.Containers), restarts)
	}
}

func writeLedger(w io.Writer, l *v1alpha1.LedgerStatus) {
	if l == nil {
		fmt.Fprint(w, "\nThe ledger has not been read yet.\n")
		return
	}
	lost := "unknown until the simulation is complete"
	if l.Lost != nil {
		lost = fmt.Sprint(*l.Lost)
	}
	fmt.Fprint(w, "\nLEDGER\tCONFIRMED\tTOOK EFFECT\n")
	fmt.Fprintf(w, "entries\t%d\t%d\n", l.EntriesConfirmed, l.EntriesRecorded)
	fmt.Fprintf(w, "matched exits\t%d\t%d\n", l.ExitsMatchedConfirmed, l.Matched)
	fmt.Fprintf(w, "unmatched exits\t%d\t%d\n", l.ExitsUnmatchedConfirmed, l.UnmatchedExpected)
	fmt.Fprint(w, "\n")
	fmt.Fprintf(w, "summaries stored\t%d\n", l.SummariesStored)
	fmt.Fprintf(w, "unexpectedly unmatched\t%d\n", l.UnmatchedUnexpected)
	fmt.Fprintf(w, "dead letters\t%d\n", l.DeadLettered)
	fmt.Fprintf(w, "lost\t%s\n", lost)
}
