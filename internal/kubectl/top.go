package kubectl

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const topHelp = `Show the current rates, latencies and backlog of simulations. On a terminal the table is redrawn every
two seconds until Ctrl-C.

  ENTRY/S, EXIT/S   events published per second in the last 10 s, and the target rate
  P99               99th percentile of the end-to-end latency in the last 10 s
  BACKLOG           events that wait in queues, or that were confirmed but have not taken effect
  LOST              confirmed events that never took effect. It is known once a simulation is complete
  VERDICT           PASS or FAIL. FAIL before the end means that the verdict cannot become PASS

The numbers come from a processor pod of each simulation, through the API server. That needs the
rule {apiGroups: [""], resources: ["pods/portforward"], verbs: ["get", "create"]}. Without this
rule, the numbers come from the status. Rates are then means since the start, and P99 is known only
at the end.`

const (
	// topInterval is the time between two updates of the table. topTimeout is the timeout for reading one simulation.
	topInterval = 2 * time.Second
	topTimeout  = 5 * time.Second
	// topWindow is the period that the rates and latencies in the table cover.
	topWindow = 10 * time.Second
	// reportDelay is the maximum delay with which a process stores a row.
	reportDelay = 2 * time.Second
	// topConcurrency is the maximum number of simulations that are read at the same time.
	topConcurrency = 8
)

type topFlags struct {
	output        outputFlag
	allNamespaces bool
	watch         bool
	noWatch       bool
}

func (p *Plugin) topCommand() *cobra.Command {
	f := topFlags{output: outputFlag{allowed: []string{outputJSON, outputYAML, outputWide, outputName}}}
	cmd := &cobra.Command{
		Use:               "top [NAME]",
		Short:             "Show the current rates, latencies and backlog of simulations",
		Long:              topHelp,
		Example:           "  kubectl parking top -A\n  kubectl parking top rush-hour --no-watch",
		Args:              nameArgs(0, 1),
		ValidArgsFunction: p.CompleteNames(1),
		RunE: p.connected(func(ctx context.Context, c *cluster, args []string) error {
			switch {
			case f.allNamespaces && len(args) > 0:
				return inputErrorf("-A shows the simulations of all namespaces: remove the name %q, or replace -A with -n NAMESPACE", args[0])
			case f.watch && f.noWatch:
				return inputErrorf("--watch and --no-watch cannot be used together")
			}
			return p.top(ctx, newMeter(c, strings.Join(args, ""), f.allNamespaces), f)
		}),
	}
	f.output.register(cmd)
	registerAllNamespaces(cmd, &f.allNamespaces)
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "print again every two seconds, until Ctrl-C (default for a table on a terminal)")
	cmd.Flags().BoolVar(&f.noWatch, "no-watch", false, "print once (default if stdout is not a terminal, and with -o json, yaml or name)")
	return cmd
}

// top prints the table once, or repeatedly until ctx ends.
func (p *Plugin) top(ctx context.Context, m *meter, f topFlags) error {
	defer m.close()
	show := func(rows []TopRow) error { return p.writeTop(m, rows, f) }
	watch := f.watch
	if !f.noWatch && f.output.isText() && terminal.CanRedraw(p.Out) {
		screen := terminal.NewScreen(p.Out, func() (int, int) { return terminal.Size(p.Out) })
		defer screen.Close()
		watch = true
		show = func(rows []TopRow) error {
			columns, _ := screen.Size()
			screen.Show(m.lines(rows, f, columns))
			return nil
		}
	}
	for {
		rows, err := m.measure(ctx)
		switch {
		case watch && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := show(rows); err != nil || !watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(topInterval):
		}
	}
}

// writeTop prints the rows in the format that the user has chosen.
func (p *Plugin) writeTop(m *meter, rows []TopRow, f topFlags) error {
	switch {
	case f.output.isText():
		_, err := fmt.Fprintln(p.Out, strings.Join(m.lines(rows, f, math.MaxInt), "\n"))
		return err
	case f.output.format == outputName:
		for i := range rows {
			if _, err := fmt.Fprintln(p.Out, terminal.Clean(qualifiedName(rows[i].Simulation))); err != nil {
				return err
			}
		}
		return nil
	}
	return writeValue(p.Out, f.output.format, rows)
}

// TopRow is the row of one simulation in the table of the command "top". If a pointer is nil, the value is unknown.
type TopRow struct {
	Namespace  string `json:"namespace"`
	Simulation string `json:"simulation"`
	Status     string `json:"status"`
	Entry      Rates  `json:"entry"`
	Exit       Rates  `json:"exit"`
	// EndToEndP99Seconds and ProcessingP99Seconds cover the last 10 seconds of a running simulation. For a complete
	// simulation, they cover all of its duration.
	EndToEndP99Seconds   *float64 `json:"endToEndP99Seconds"`
	ProcessingP99Seconds *float64 `json:"processingP99Seconds"`
	Backlog              *int64   `json:"backlog"`
	Lost                 *int64   `json:"lost"`
	// Verdict is PASS or FAIL. It is empty while the verdict is not certain.
	Verdict string `json:"verdict"`
	// Live is true if the values come from a pod of the simulation, and false if they come from the status of the
	// ParkingSimulation.
	Live bool `json:"live"`
	// Note says why there is no live data of a running simulation.
	Note string `json:"note,omitempty"`
}

// Rates contains the rate at which events were published, and the target rate of the schedule. Both are in events
// per second.
type Rates struct {
	Achieved *float64 `json:"achieved"`
	Target   *float64 `json:"target"`
}

// String formats the rates for the table.
func (r Rates) String() string {
	achieved := none
	if r.Achieved != nil {
		achieved = terminal.Rate(*r.Achieved)
	}
	if r.Target == nil {
		return achieved
	}
	return achieved + " of " + terminal.Rate(*r.Target)
}

// meter measures simulations repeatedly. It keeps a tunnel to one pod of each simulation open between measurements.
type meter struct {
	c         *cluster
	name      string // the simulation to measure; "" means all simulations
	namespace string // "" means all namespaces

	mu      sync.Mutex
	sources map[types.UID]*source
}

func newMeter(c *cluster, name string, allNamespaces bool) *meter {
	m := &meter{c: c, name: name, namespace: c.namespace, sources: map[types.UID]*source{}}
	if allNamespaces {
		m.namespace = ""
	}
	return m
}

func (m *meter) close() {
	for _, s := range m.sources {
		s.pages.Close()
	}
}

// measure returns a row for each simulation, sorted by namespace and name.
func (m *meter) measure(ctx context.Context) ([]TopRow, error) {
	sims, err := m.simulations(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]TopRow, len(sims))
	var work errgroup.Group
	work.SetLimit(topConcurrency)
	for i := range sims {
		work.Go(func() error {
			rows[i] = m.measureOne(ctx, &sims[i])
			return nil
		})
	}
	_ = work.Wait() // always nil, because no function of the group returns an error
	return rows, nil
}

func (m *meter) simulations(ctx context.Context) ([]v1alpha1.ParkingSimulation, error) {
	if m.name != "" {
		sim, err := m.c.simulation(ctx, m.name)
		if err != nil {
			return nil, err
		}
		return []v1alpha1.ParkingSimulation{*sim}, nil
	}
	list, err := m.c.simulations(ctx, m.namespace)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.ParkingSimulation) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return list.Items, nil
}

// measureOne returns the row of one simulation, from a pod while the simulation runs. If it does not run, or no pod can
// be read, the row comes from the status.
func (m *meter) measureOne(ctx context.Context, sim *v1alpha1.ParkingSimulation) TopRow {
	row := rowOfStatus(sim)
	if sim.Status.CompletionTime != nil || sim.Status.StartTime == nil || sim.DeletionTimestamp != nil {
		return row
	}
	ctx, cancel := context.WithTimeout(ctx, topTimeout)
	defer cancel()
	if err := m.sourceOf(sim).measure(ctx, &row); err != nil {
		row = rowOfStatus(sim)
		row.Note = err.Error()
	}
	return row
}

// sourceOf returns the source of a simulation. The meter keeps the source for later measurements.
func (m *meter) sourceOf(sim *v1alpha1.ParkingSimulation) *source {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sources[sim.UID]
	if !ok {
		s = m.c.source(sim, nil)
		m.sources[sim.UID] = s
	}
	return s
}

// measure sets the fields of a row from the live data of a running simulation.
func (s *source) measure(ctx context.Context, row *TopRow) error {
	state, err := s.State(ctx)
	if err != nil {
		return err
	}
	now := cmp.Or(state.At, s.now())
	from := now.Add(-topWindow).Truncate(time.Second)
	rows, err := s.fetch(ctx, from, now.Add(time.Second))
	if err != nil {
		return err
	}
	total, seconds := timeline.Sum(rows...), secondsOf(rows, from, now, state.StartedAt)
	row.Live = true
	row.Verdict = string(state.Verdict.Outcome)
	row.Entry = Rates{new(float64(total.Entry.Published) / seconds), &state.Entry.Rate}
	row.Exit = Rates{new(float64(total.Exit.Published) / seconds), &state.Exit.Rate}
	row.EndToEndP99Seconds = p99(total.Entry.EndToEnd, total.Exit.EndToEnd)
	row.ProcessingP99Seconds = p99(total.Entry.Processing, total.Exit.Processing)
	if l := state.Ledger; l != nil {
		row.Backlog = &l.Outstanding
	}
	if q := state.Queues; q.Ready != nil && q.Retrying != nil {
		waiting := *q.Ready + *q.Retrying
		if row.Backlog == nil || waiting > *row.Backlog {
			row.Backlog = &waiting
		}
	}
	return nil
}

// secondsOf returns the number of seconds in [from, to) for which the timeline is complete. It includes seconds without
// a row, in which nothing happened.
func secondsOf(rows []timeline.Row, from, to, start time.Time) float64 {
	end := to.Add(-reportDelay) // later rows may still be missing
	if n := len(rows); n > 0 {
		if newest := rows[n-1].End(); newest.After(end) {
			end = newest
		}
		if oldest := rows[0].Start(); oldest.Before(from) {
			// The oldest row also counts events from before the period, so extend the period to the start of this row.
			from = oldest
		}
	}
	if start.After(from) {
		from = start
	}
	return max(end.Sub(from).Seconds(), 1)
}

func p99(of ...histogram.Snapshot) *float64 {
	const percentile = 0.99
	all := histogram.Merge(of...)
	if all.Count() == 0 {
		return nil
	}
	return new(all.Quantile(percentile).Seconds())
}

func rowOfStatus(sim *v1alpha1.ParkingSimulation) TopRow {
	status := &sim.Status
	row := TopRow{Namespace: sim.Namespace, Simulation: sim.Name, Status: summary(sim), Verdict: verdictSoFar(status)}
	if t := status.TargetRates; t != nil && status.CompletionTime == nil {
		row.Entry.Target, row.Exit.Target = new(float64(t.Entry)), new(float64(t.Exit))
	}
	if l := status.Latency; l != nil {
		row.EndToEndP99Seconds, row.ProcessingP99Seconds = p99Of(l.EndToEnd), p99Of(l.Processing)
	}
	l := status.Ledger
	if l == nil {
		return row
	}
	row.Lost = l.Lost
	row.Backlog = new(missingEvents(l))
	if status.CompletionTime != nil {
		row.Backlog = new(int64(0))
	}
	if status.StartTime != nil && l.ObservedTime != nil {
		end := l.ObservedTime.Time
		if status.EndTime != nil {
			end = status.EndTime.Time
		}
		if seconds := end.Sub(status.StartTime.Time).Seconds(); seconds > 0 {
			row.Entry.Achieved = new(float64(l.EntriesConfirmed) / seconds)
			row.Exit.Achieved = new(float64(l.ExitsMatchedConfirmed+l.ExitsUnmatchedConfirmed) / seconds)
		}
	}
	return row
}

// missingEvents returns how many confirmed events have not taken effect. Indeterminate events count as confirmed,
// because they took effect.
func missingEvents(l *v1alpha1.LedgerStatus) int64 {
	confirmed := l.EntriesConfirmed + l.ExitsMatchedConfirmed + l.ExitsUnmatchedConfirmed + l.Indeterminate
	return max(confirmed-l.EntriesRecorded-l.Matched-l.UnmatchedExpected-l.UnmatchedUnexpected, 0)
}

func p99Of(l *v1alpha1.LatencySummary) *float64 {
	if l == nil {
		return nil
	}
	d, err := l.P99.Parse()
	if err != nil {
		return nil
	}
	return new(d.Seconds())
}

// lines renders rows as a table. If there are no rows, lines returns a message.
func (m *meter) lines(rows []TopRow, f topFlags, columns int) []string {
	if len(rows) == 0 {
		return []string{noSimulations(m.namespace)}
	}
	return topLines(rows, f, columns)
}

// topLines renders rows as a table, followed by their notes. If a line is wider than columns, the space between the
// cells is reduced.
func topLines(rows []TopRow, f topFlags, columns int) []string {
	rows = terminal.Cleaned(rows)
	lines := tableLines(rows, f, tablePadding)
	if slices.ContainsFunc(lines, func(line string) bool { return terminal.Width(line) > columns }) {
		lines = tableLines(rows, f, 1)
	}
	notes := map[string]bool{}
	for i := range rows {
		if r := &rows[i]; r.Note != "" {
			notes[fmt.Sprintf("%s/%s: no live data: %s", r.Namespace, r.Simulation, r.Note)] = true
		}
	}
	if len(notes) > 0 {
		lines = append(lines, "")
	}
	for _, note := range slices.Sorted(maps.Keys(notes)) {
		lines = append(lines, terminal.Wrap(note, columns)...)
	}
	return lines
}

func tableLines(rows []TopRow, f topFlags, padding int) []string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, padding, ' ', 0)
	head := "NAME\tSTATUS\tENTRY/S\tEXIT/S\tP99\tBACKLOG\tLOST\tVERDICT"
	if f.allNamespaces {
		head = "NAMESPACE\t" + head
	}
	if f.output.format == outputWide {
		head += "\tPROCESSING P99"
	}
	fmt.Fprintln(w, head)
	for i := range rows {
		r := &rows[i]
		cells := []string{
			r.Simulation, orNone(r.Status), r.Entry.String(), r.Exit.String(), latencyText(r.EndToEndP99Seconds),
			number(r.Backlog), number(r.Lost), orNone(r.Verdict),
		}
		if f.allNamespaces {
			cells = slices.Insert(cells, 0, r.Namespace)
		}
		if f.output.format == outputWide {
			cells = append(cells, latencyText(r.ProcessingP99Seconds))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush() // writing to a strings.Builder never fails
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

// latencyText formats a latency. It returns "–" if seconds is nil.
func latencyText(seconds *float64) string {
	if seconds == nil {
		return none
	}
	return terminal.Duration(time.Duration(*seconds * float64(time.Second)))
}
