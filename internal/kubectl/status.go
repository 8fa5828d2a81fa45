package kubectl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

const statusExamples = `  # List the simulations of a namespace, or of all namespaces
  kubectl parking status -n load-tests
  kubectl parking status -A -o wide

  # Show one simulation on one screen, and again after each change
  kubectl parking status rush-hour --watch`

type statusFlags struct {
	output        outputFlag
	allNamespaces bool
	watch         bool
}

func (p *Plugin) statusCommand() *cobra.Command {
	f := statusFlags{output: outputFlag{allowed: []string{outputJSON, outputYAML, outputWide, outputName}}}
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "List simulations, or show the conditions, servers, pods, ledger, objectives and faults of one",
		Long: `List simulations, or show one simulation on one screen: its conditions, servers, pods, ledger,
objectives, faults and verdict.`,
		Example:           statusExamples,
		Args:              nameArgs(0, 1),
		ValidArgsFunction: p.CompleteNames(1),
		RunE: p.connected(func(ctx context.Context, c *cluster, args []string) error {
			switch {
			case len(args) == 0:
				return p.list(ctx, c, f)
			case f.allNamespaces:
				return inputErrorf("-A lists the simulations of all namespaces: remove the name %q, or replace -A with -n NAMESPACE", args[0])
			}
			return p.show(ctx, c, args[0], f)
		}),
	}
	f.output.register(cmd)
	registerAllNamespaces(cmd, &f.allNamespaces)
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "print again after each change, until Ctrl-C")
	return cmd
}

func registerAllNamespaces(cmd *cobra.Command, all *bool) {
	cmd.Flags().BoolVarP(all, "all-namespaces", "A", false, "simulations of all namespaces")
}

// list prints all simulations of a namespace, or of all namespaces.
func (p *Plugin) list(ctx context.Context, c *cluster, f statusFlags) error {
	namespace := c.namespace
	if f.allNamespaces {
		namespace = ""
	}
	if f.watch {
		return p.watchList(ctx, c, namespace, f)
	}
	list, err := c.simulations(ctx, namespace)
	if err != nil {
		return err
	}
	if !f.output.isText() {
		return writeList(p.Out, f.output.format, list.Items)
	}
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(p.ErrOut, noSimulations(namespace))
		return err
	}
	w := newTable(p.Out)
	fmt.Fprintln(w, strings.Join(columns(f), "\t"))
	for i := range list.Items {
		fmt.Fprintln(w, strings.Join(cells(&list.Items[i], f), "\t"))
	}
	return w.Flush()
}

func noSimulations(namespace string) string {
	if namespace == "" {
		return "No simulations found."
	}
	return fmt.Sprintf("No simulations found in namespace %s; -A lists those of all namespaces.", namespace)
}

// watchList prints the simulations of a namespace. After that, it prints a line for each change of a simulation.
func (p *Plugin) watchList(ctx context.Context, c *cluster, namespace string, f statusFlags) error {
	const width = 14 // the width is fixed, because the later rows are not known yet
	line := func(cells []string) {
		for i := range cells[:len(cells)-1] {
			cells[i] = fmt.Sprintf("%-*s", width, cells[i])
		}
		fmt.Fprintln(p.Out, strings.Join(cells, " "))
	}
	if f.output.isText() {
		line(columns(f))
	}
	return c.watchSimulations(ctx, namespace, "", func(sim *v1alpha1.ParkingSimulation, deleted bool) error {
		switch {
		case !f.output.isText():
			return writeSimulation(p.Out, f.output.format, sim)
		case deleted:
			line([]string{terminal.Clean(sim.Namespace + "/" + sim.Name), "deleted"})
		default:
			line(cells(sim, f))
		}
		return nil
	})
}

func columns(f statusFlags) []string {
	names := []string{"NAME", "STATUS", "ENTRY/S", "EXIT/S", "PROCESSORS", "PROCESSED", "LOST", "VERDICT", "AGE"}
	if f.allNamespaces {
		names = append([]string{"NAMESPACE"}, names...)
	}
	if f.output.format == outputWide {
		names = append(names, "MATCH%", "RABBITMQ", "REDIS", "SUMMARY API", "REPORT")
	}
	return names
}

func cells(sim *v1alpha1.ParkingSimulation, f statusFlags) []string {
	sim = terminal.Cleaned(sim)
	status := &sim.Status
	entry, exit, processed, lost := none, none, none, none
	if t := status.TargetRates; t != nil {
		entry, exit = number(&t.Entry), number(&t.Exit)
	}
	if l := status.Ledger; l != nil {
		processed, lost = number(&l.Processed), number(l.Lost)
	}
	row := []string{
		sim.Name, orNone(summary(sim)), entry, exit, number(status.ReadyReplicas) + "/" + number(status.Replicas), processed, lost,
		orNone(verdictSoFar(status)), age(sim.CreationTimestamp.Time),
	}
	if f.allNamespaces {
		row = append([]string{sim.Namespace}, row...)
	}
	if f.output.format == outputWide {
		row = append(row, number(sim.Spec.Exit.MatchPercent), rabbitMQOf(sim), redisOf(sim), summaryAPIOf(sim), orNone(status.Report))
	}
	return row
}

// summary describes the state of a simulation in one word.
func summary(sim *v1alpha1.ParkingSimulation) string {
	if sim.DeletionTimestamp != nil {
		return "Terminating"
	}
	if c := meta.FindStatusCondition(sim.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return c.Reason
	}
	return ""
}

// verdictSoFar returns the verdict. It returns FAIL for a running simulation that is certain to fail.
func verdictSoFar(status *v1alpha1.ParkingSimulationStatus) string {
	if status.Verdict == "" && len(certainFailures(status)) > 0 {
		return string(v1alpha1.VerdictFail)
	}
	return string(status.Verdict)
}

// certainFailures returns the reasons why a running simulation is already certain to fail.
func certainFailures(status *v1alpha1.ParkingSimulationStatus) []string {
	c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionObjectivesMet)
	if status.Verdict != "" || c == nil || c.Status != metav1.ConditionFalse {
		return nil
	}
	return strings.Split(c.Message, "; ")
}

// show prints a simulation. With --watch, it prints the simulation again after each change.
func (p *Plugin) show(ctx context.Context, c *cluster, name string, f statusFlags) error {
	sim, err := c.simulation(ctx, name)
	if err != nil {
		return err
	}
	write := func(sim *v1alpha1.ParkingSimulation) error {
		if !f.output.isText() {
			return writeSimulation(p.Out, f.output.format, sim)
		}
		return writeStatus(p.Out, sim, c.detailsOf(ctx, sim))
	}
	if !f.watch {
		return write(sim)
	}
	first := true
	err = c.watchSimulations(ctx, c.namespace, name, func(sim *v1alpha1.ParkingSimulation, deleted bool) error {
		if deleted {
			p.notef("%s/%s was deleted.\n", sim.Namespace, sim.Name)
			return errDeleted
		}
		if !first && f.output.isText() {
			fmt.Fprint(p.Out, "\n────────\n\n")
		}
		first = false
		return write(sim)
	})
	if errors.Is(err, errDeleted) {
		return nil
	}
	return err
}

// errDeleted ends the watch of a simulation when the simulation is deleted.
var errDeleted = errors.New("the simulation was deleted")

// podsOf returns the pods of a simulation, sorted by name.
func (c *cluster) podsOf(ctx context.Context, namespace, name string) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := c.List(ctx, &list, client.InNamespace(namespace), client.MatchingLabels{resources.SimulationLabel: name})
	if err != nil {
		return nil, c.explain(err, "list the pods of "+namespace+"/"+name, onCore("pods", "list"))
	}
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, nil
}

// details contains data that the ParkingSimulation object does not contain. An error field says why the data above it
// is missing.
type details struct {
	pods    []corev1.Pod
	podsErr error
	// checks contains the checks in the simulation's report. It is nil if there is no report.
	checks    []ledger.Check
	checksErr error
}

func (c *cluster) detailsOf(ctx context.Context, sim *v1alpha1.ParkingSimulation) details {
	var d details
	d.pods, d.podsErr = c.podsOf(ctx, sim.Namespace, sim.Name)
	if sim.Status.Report == "" {
		return d
	}
	document, err := c.reportOf(ctx, sim)
	if err != nil {
		d.checksErr = err
		return d
	}
	d.checks = document.Checks
	return d
}

func writeStatus(out io.Writer, sim *v1alpha1.ParkingSimulation, d details) error {
	sim, d.pods, d.checks = terminal.Cleaned(sim), terminal.Cleaned(d.pods), terminal.Cleaned(d.checks)
	w := newTable(out)
	writeHead(w, sim)
	fmt.Fprint(w, "\nCONDITION\tSTATUS\tREASON\tMESSAGE\n")
	for i := range sim.Status.Conditions {
		c := &sim.Status.Conditions[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	writeServers(w, sim)
	writePods(w, d.pods, d.podsErr)
	writeLedger(w, sim.Status.Ledger)
	if d.checks != nil {
		writeReportedObjectives(w, d.checks)
	} else {
		writeObjectives(w, sim, d.checksErr)
	}
	writeFaults(w, sim.Status.Faults)
	return w.Flush()
}

func writeHead(w io.Writer, sim *v1alpha1.ParkingSimulation) {
	fmt.Fprintf(w, "Simulation:\t%s/%s\n", sim.Namespace, sim.Name)
	fmt.Fprintf(w, "Suspended:\t%t\n", sim.Spec.Suspend)
	if d := sim.Spec.Duration; d != nil {
		fmt.Fprintf(w, "Duration:\t%s\n", *d)
	}
	if sim.Spec.Objectives.AbortOnFailure {
		fmt.Fprint(w, "Ends early:\tonce the verdict can only be FAIL\n")
	}
	if t := sim.Status.TargetRates; t != nil {
		fmt.Fprintf(w, "Target rates:\t%d entries/s, %d exits/s\n", t.Entry, t.Exit)
	}
	if start := sim.Status.StartTime; start != nil {
		fmt.Fprintf(w, "Started:\t%s (%s ago)\n", start.UTC().Format("2006-01-02 15:04:05Z"), age(start.Time))
	}
	if f := sim.Status.Faults; f != nil {
		fmt.Fprintf(w, "Faults:\t%d injected, %d recovered, %d not recovered, %d not injected\n", f.Injected, f.Recovered, f.NotRecovered, f.NotInjected)
		if f.Active != "" {
			fmt.Fprintf(w, "\t- %s is active\n", f.Active)
		}
	}
	verdict, reasons := string(sim.Status.Verdict), sim.Status.Reasons
	if certain := certainFailures(&sim.Status); len(certain) > 0 {
		verdict, reasons = "FAIL is certain", certain
	}
	fmt.Fprintf(w, "Verdict:\t%s\n", orNone(verdict))
	for _, reason := range reasons {
		fmt.Fprintf(w, "\t- %s\n", reason)
	}
	if sim.Status.Report != "" {
		fmt.Fprintf(w, "Report:\tConfigMap %s ('kubectl parking report %s')\n", sim.Status.Report, sim.Name)
	}
}

// writeServers writes a table of the servers. The column SOURCE contains an object, a URL or "managed". The column
// STATE contains the reason of the server's condition.
func writeServers(w io.Writer, sim *v1alpha1.ParkingSimulation) {
	fmt.Fprint(w, "\nSERVER\tSOURCE\tSTATE\n")
	for _, server := range []struct{ name, source, condition string }{
		{"RabbitMQ", rabbitMQOf(sim), v1alpha1.ConditionBrokerReady},
		{"Redis", redisOf(sim), v1alpha1.ConditionStoreReady},
		{"summary API", summaryAPIOf(sim), v1alpha1.ConditionSummaryAPIReady},
	} {
		state := "unknown"
		if c := meta.FindStatusCondition(sim.Status.Conditions, server.condition); c != nil {
			state = c.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", server.name, server.source, state)
	}
}

// writeFaults writes a table of the latest occurrences of faults. If the worst occurrence is not among the latest, it
// becomes the first row.
func writeFaults(w io.Writer, faults *v1alpha1.FaultsStatus) {
	if faults == nil {
		return
	}
	rows := faults.Latest
	if f := faults.Worst; f != nil && !slices.ContainsFunc(rows, func(r v1alpha1.FaultStatus) bool { return r.Name == f.Name && r.Number == f.Number }) {
		rows = slices.Concat([]v1alpha1.FaultStatus{*f}, rows)
	}
	fmt.Fprint(w, "\nFAULT\tTARGET\tACTION\tHIT\tOUTCOME\tRECOVERY\tPEAK LAG\tPEAK BACKLOG\tPEAK P99\tREDELIVERED\tDUPLICATES\tLOST\n")
	for i := range rows {
		f := &rows[i]
		fmt.Fprintf(w, "%s/%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, f.Number, orNone(string(f.Target)), orNone(string(f.Action)),
			hitOf(f), f.Outcome, valueOf(f.Recovery), valueOf(f.PeakLag), valueOf(f.PeakBacklog), valueOf(f.PeakEndToEndP99),
			valueOf(f.Redeliveries), valueOf(f.DuplicatesSuppressed), valueOf(f.Lost))
	}
}

// hitOf returns the name of the pod that a fault hit. If the fault hit several pods, hitOf returns the number of pods.
func hitOf(f *v1alpha1.FaultStatus) string {
	switch {
	case f.HitCount == 0:
		return orNone("")
	case f.HitCount == 1 && len(f.Hit) == 1:
		return f.Hit[0]
	}
	return fmt.Sprintf("%d pods", f.HitCount)
}

// valueOf returns the value as text. It returns "–" if the value is nil, that is, was not measured.
func valueOf[T any](value *T) string {
	if value == nil {
		return orNone("")
	}
	return fmt.Sprint(*value)
}

const managed = "managed"

func rabbitMQOf(sim *v1alpha1.ParkingSimulation) string {
	switch spec := &sim.Spec.RabbitMQ; {
	case spec.ClusterRef != nil:
		return "RabbitmqCluster " + strings.TrimPrefix(spec.ClusterRef.Namespace+"/"+spec.ClusterRef.Name, "/")
	case spec.SecretRef != nil:
		return "Secret " + spec.SecretRef.Name
	}
	return managed
}

func redisOf(sim *v1alpha1.ParkingSimulation) string {
	if ref := sim.Spec.Redis.SecretRef; ref != nil {
		return "Secret " + ref.Name
	}
	return managed
}

func summaryAPIOf(sim *v1alpha1.ParkingSimulation) string {
	spec := &sim.Spec.SummaryAPI
	switch {
	case spec.URL != "":
		return spec.URL
	case spec.Managed != nil && spec.Managed.Database != nil:
		return managed + ", PostgreSQL of Secret " + spec.Managed.Database.SecretRef.Name
	}
	return managed
}

func writePods(w io.Writer, pods []corev1.Pod, podsErr error) {
	if podsErr != nil {
		fmt.Fprintf(w, "\nThe pods are not shown: %s\n", terminal.Clean(podsErr.Error()))
		return
	}
	if len(pods) == 0 {
		fmt.Fprint(w, "\nThere are no pods.\n")
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
		lost = number(l.Lost)
	}
	fmt.Fprint(w, "\nLEDGER\tCONFIRMED\tTOOK EFFECT\n")
	fmt.Fprintf(w, "entries\t%d\t%d\n", l.EntriesConfirmed, l.EntriesRecorded)
	fmt.Fprintf(w, "matched exits\t%d\t%d\n", l.ExitsMatchedConfirmed, l.Matched)
	fmt.Fprintf(w, "unmatched exits\t%d\t%d\n", l.ExitsUnmatchedConfirmed, l.UnmatchedExpected)
	fmt.Fprintf(w, "summaries stored\t\t%d\n", l.SummariesStored)
	fmt.Fprintf(w, "unexpectedly unmatched exits\t\t%d\n", l.UnmatchedUnexpected)
	fmt.Fprintf(w, "dead letters\t\t%d\n", l.DeadLettered)
	fmt.Fprintf(w, "lost\t\t%s\n", lost)
}

func writeReportedObjectives(w io.Writer, checks []ledger.Check) {
	fmt.Fprint(w, "\nOBJECTIVE\tBOUND\tMEASURED\tOUTCOME\n")
	for _, c := range checks {
		if c.Kind == ledger.Objective {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, c.Want, orNone(c.Got), c.Outcome)
		}
	}
}

// writeObjectives writes the objectives of the spec and their measured values. It also writes reportErr unless it is
// nil.
func writeObjectives(w io.Writer, sim *v1alpha1.ParkingSimulation, reportErr error) {
	fmt.Fprint(w, "\nOBJECTIVE\tBOUND\tMEASURED\n")
	for _, o := range objectivesInStatus(sim) {
		fmt.Fprintf(w, "%s\t%s\t%s\n", o.name, orNone(o.bound), orNone(o.measured))
	}
	if reportErr != nil {
		fmt.Fprintf(w, "\nNot all measured values are shown: %s\n", terminal.Clean(reportErr.Error()))
	}
}

// objective is an objective of a simulation, or a measured value without an objective.
type objective struct {
	name     string // the name of the check in the verdict
	bound    string // "" if the simulation does not have this objective
	measured string // "" if the status does not contain the measured value
}

// objectivesInStatus returns the objectives of a simulation, and also measured values without an objective, such as the
// latencies of the whole run.
func objectivesInStatus(sim *v1alpha1.ParkingSimulation) []objective {
	spec := &sim.Spec.Objectives
	var all []objective
	for _, phase := range []struct {
		suffix string
		spec   *v1alpha1.PhaseObjectivesSpec
	}{{"", &spec.PhaseObjectivesSpec}, {ledger.SuffixWithoutFaults, &spec.WithoutFaults}, {ledger.SuffixUnderFaults, &spec.UnderFaults}} {
		percent := ""
		if p := phase.spec.MinAchievedPercent; p != nil {
			percent = number(p) + " %"
		}
		all = append(all,
			objective{name: ledger.CheckProcessing + phase.suffix, bound: text(phase.spec.ProcessingP99)},
			objective{name: ledger.CheckEndToEnd + phase.suffix, bound: text(phase.spec.EndToEndP99)},
			objective{name: ledger.CheckLag + phase.suffix, bound: text(phase.spec.MaxLag)},
			objective{name: ledger.CheckAchieved + phase.suffix, bound: percent},
		)
	}
	all = append(all,
		objective{name: ledger.CheckRecovery, bound: text(spec.MaxRecovery)},
		objective{name: ledger.CheckLost, bound: number(spec.MaxLost)},
		objective{name: ledger.CheckUnexpected, bound: number(spec.MaxUnexpected)},
	)
	measured := measuredInStatus(&sim.Status)
	for i := range all {
		all[i].measured = measured[all[i].name]
	}
	return slices.DeleteFunc(all, func(o objective) bool { return o.bound == "" && o.measured == "" && !strings.HasSuffix(o.name, " p99") })
}

// measuredInStatus returns the measured values that the status contains, by the name of the objective.
func measuredInStatus(status *v1alpha1.ParkingSimulationStatus) map[string]string {
	values := map[string]string{}
	if l := status.Latency; l != nil && l.Processing != nil {
		values[ledger.CheckProcessing] = string(l.Processing.P99)
	}
	if l := status.Latency; l != nil && l.EndToEnd != nil {
		values[ledger.CheckEndToEnd] = string(l.EndToEnd.P99)
	}
	if l := status.Ledger; l != nil {
		values[ledger.CheckLost], values[ledger.CheckUnexpected] = number(l.Lost), number(&l.UnmatchedUnexpected)
	}
	if f := status.Faults; f != nil {
		var slowest time.Duration
		for i := range f.Results {
			if d := f.Results[i].SlowestRecovery; d != nil {
				slowest = max(slowest, d.Value())
			}
		}
		if slowest > 0 {
			values[ledger.CheckRecovery] = slowest.String()
		}
	}
	return values
}

// text returns a duration of the spec as text. If d is nil, it returns "".
func text(d *v1alpha1.Duration) string {
	if d == nil {
		return ""
	}
	return string(*d)
}
