package kubectl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/podfailure"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

const (
	// objectInterval is the minimum time between two reads of the ParkingSimulation.
	objectInterval = 3 * time.Second
	// recentTime is the age up to which a row counts as recent. Recent rows stay in memory, because the live page
	// requests them repeatedly.
	recentTime = 3 * time.Minute
	// newestTime is the age up to which most requests for recent rows read from a pod. Older rows come from memory.
	newestTime = 10 * time.Second
	// One in fullUpdateEvery requests for recent rows reads all recent rows from a pod, to find rows that arrived late.
	fullUpdateEvery = 15
)

// source implements view.Source for a simulation. It reads the simulation, its pods and its report.
type source struct {
	// get reads the simulation from the cluster. read reads its report.
	get  func(context.Context) (*v1alpha1.ParkingSimulation, error)
	read func(context.Context, *v1alpha1.ParkingSimulation) (*report.Document, error)
	// The field pages reads live data from the pods of the simulation.
	pages *pages
	// The field faults computes how faults affect a running simulation. It is nil if the command does not show faults.
	faults *liveFaults
	// failures contains the observed failures of pods, which the timeline shows as marks.
	failures podfailure.Tracker

	mu       sync.Mutex // mu guards the fields below
	sim      *v1alpha1.ParkingSimulation
	seen     time.Time // the time of the last attempt to read the simulation
	document *report.Document
	recent   map[int64]timeline.Row // the recent rows, by the second in which each row begins
	updates  int
	ahead    time.Duration // how far the clock of the pods is ahead of the clock of this machine
}

// source returns a view.Source that reads a simulation in the cluster. The caller must close the field pages of the
// result.
func (c *cluster) source(sim *v1alpha1.ParkingSimulation, connected func(pod string)) *source {
	return &source{
		get: func(ctx context.Context) (*v1alpha1.ParkingSimulation, error) {
			return c.simulation(ctx, sim.Name)
		},
		read: c.reportOf, pages: c.pagesOf(sim.Namespace, sim.Name, connected), sim: sim, seen: time.Now(),
	}
}

// simulation returns the ParkingSimulation. It reads the object again if the last read was more than objectInterval
// ago. If this read fails, it returns the object of an earlier read.
func (s *source) simulation(ctx context.Context) *v1alpha1.ParkingSimulation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.seen) > objectInterval {
		if sim, err := s.get(ctx); err == nil {
			if sim.UID != s.sim.UID {
				s.reset()
			}
			s.sim = sim
		}
		s.seen = time.Now()
	}
	return s.sim
}

// reset discards the data of a simulation that was deleted and created again. The caller holds s.mu.
func (s *source) reset() {
	s.document, s.recent, s.updates = nil, nil, 0
	if s.faults != nil {
		s.faults.reset()
	}
}

// reread reads the simulation again, even if the last read was recent.
func (s *source) reread(ctx context.Context) *v1alpha1.ParkingSimulation {
	s.mu.Lock()
	s.seen = time.Time{}
	s.mu.Unlock()
	return s.simulation(ctx)
}

// now returns the time of the pods' clock, which the rows of the timeline use.
func (s *source) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.ahead)
}

// setClock stores how far the given time of a pod is ahead of the clock of this machine. A zero time changes nothing.
func (s *source) setClock(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !at.IsZero() {
		s.ahead = time.Until(at)
	}
}

// report returns the simulation's report. It returns nil if no report can be read, or if another simulation has
// replaced sim.
func (s *source) report(ctx context.Context, sim *v1alpha1.ParkingSimulation) *report.Document {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sim.UID != s.sim.UID {
		return nil
	}
	if s.document == nil && sim.Status.Report != "" {
		if d, err := s.read(ctx, sim); err == nil {
			s.document = d
		}
	}
	return s.document
}

// State implements view.Source.
func (s *source) State(ctx context.Context) (view.State, error) {
	sim := s.simulation(ctx)
	var state view.State
	err := s.pages.get(ctx, "/v1/state", &state)
	if err == nil && isOther(&state, sim) {
		sim = s.reread(ctx)
		if isOther(&state, sim) {
			err = fmt.Errorf("pod %s belongs to an earlier simulation of the same name", s.pages.current())
			s.pages.drop()
		}
	}
	document := s.report(ctx, sim)
	switch {
	case err == nil:
		s.setClock(state.At)
	case document == nil:
		return view.State{}, err
	default:
		state = reportedState(sim, document)
	}
	addVerdict(&state, sim)
	if document == nil && s.faults != nil {
		state.Faults = s.faults.accounts(ctx, sim)
	}
	if document != nil {
		state.Faults = document.Faults
		if document.Ledger != nil {
			// Only the final audit knows which events are lost.
			state.Ledger = document.Ledger
		}
	}
	return state, nil
}

// isOther reports whether the state belongs to another simulation with the same name. This happens if the simulation
// was deleted and created again.
func isOther(state *view.State, sim *v1alpha1.ParkingSimulation) bool {
	return state.Run != "" && sim.UID != "" && state.Run != string(sim.UID)
}

// reportedState returns the state of a complete simulation, as the report describes it.
func reportedState(sim *v1alpha1.ParkingSimulation, d *report.Document) view.State {
	rate := func(r report.Rate) view.Generator {
		return view.Generator{TargetRate: r.Target, AchievedRate: r.Achieved, Missed: r.Missed}
	}
	return view.State{
		Run: string(sim.UID), Simulation: d.Simulation, Version: d.Environment.Parking, At: d.EndTime, StartedAt: d.StartTime,
		DurationSeconds: d.ElapsedSeconds, Objectives: view.ObjectivesOf(&d.Objectives),
		Entry: rate(d.Rates.Entry), Exit: rate(d.Rates.Exit), Ledger: d.Ledger,
	}
}

// addVerdict adds the verdict in the status to a state. While the simulation runs, it adds only a certain FAIL, and
// keeps an existing verdict.
func addVerdict(state *view.State, sim *v1alpha1.ParkingSimulation) {
	status := &sim.Status
	switch certain := certainFailures(status); {
	case status.CompletionTime != nil:
		state.Phase = view.Finished
		state.Verdict = view.Verdict{Outcome: ledger.Outcome(status.Verdict), Final: true, Reasons: status.Reasons}
		if status.Latency != nil {
			state.Unmeasured = &status.Latency.Unmeasured
		}
	case len(certain) > 0 && state.Verdict.Outcome == "":
		state.Verdict = view.Verdict{Outcome: ledger.Fail, Reasons: certain}
	}
}

// Timeline implements view.Source. It adds the faults of the simulation and the failures of its pods to the rows.
func (s *source) Timeline(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	rows, err := s.rows(ctx, from, to)
	if err != nil {
		return nil, err
	}
	// Omit failures before the creation, which belong to a deleted simulation with the same name, and failures after
	// the completion.
	sim := s.simulation(ctx)
	until := time.Now().Add(time.Hour) // a margin, because the clocks of the pods may be ahead
	if t := sim.Status.CompletionTime; t != nil {
		until = t.Time
	}
	rows = timeline.AddMarks(rows, from, to, s.failures.Marks(client.ObjectKeyFromObject(sim), sim.CreationTimestamp.Time, until)...)
	return timeline.AddMarks(rows, from, to, fault.Marks(s.accounts(ctx, sim))...), nil
}

// accounts returns the faults in the report or, without a report, the faults computed by the latest call of State.
func (s *source) accounts(ctx context.Context, sim *v1alpha1.ParkingSimulation) []fault.Account {
	if d := s.report(ctx, sim); d != nil {
		return d.Faults
	}
	if s.faults == nil {
		return nil
	}
	return s.faults.latest()
}

// rows returns rows of the timeline. It reads the rows from a pod. If no pod returns the rows, it reads the report.
func (s *source) rows(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	var rows []timeline.Row
	var err error
	if s.now().Sub(from) > recentTime {
		rows, err = s.fetch(ctx, from, to)
	} else {
		rows, err = s.update(ctx, from, to)
	}
	if err != nil {
		sim := s.simulation(ctx)
		if d := s.report(ctx, sim); d != nil {
			return within(d.Timeline, from, to), nil
		}
	}
	return rows, err
}

// within returns the rows that overlap the interval [from, to).
func within(rows []timeline.Row, from, to time.Time) []timeline.Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r timeline.Row) bool {
		return !r.End().After(from) || !r.Start().Before(to)
	})
}

// fetch reads rows of the timeline from a pod.
func (s *source) fetch(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	query := url.Values{"from": {from.UTC().Format(time.RFC3339)}, "to": {to.UTC().Format(time.RFC3339)}}
	var answer struct{ Rows []timeline.Row }
	err := s.pages.get(ctx, timelinePath+"?"+query.Encode(), &answer)
	return answer.Rows, err
}

// update returns recent rows, mostly from memory to limit the load on the API server.
func (s *source) update(ctx context.Context, from, to time.Time) ([]timeline.Row, error) {
	newest := s.now().Add(-newestTime)
	s.mu.Lock()
	since, run := from, s.sim.UID
	const precision = time.Second // fetch rounds times down to whole seconds
	if s.updates%fullUpdateEvery != 0 && newest.After(from) && to.Sub(newest) > precision {
		since = newest
	}
	s.mu.Unlock()
	rows, err := s.fetch(ctx, since, to)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if run != s.sim.UID {
		return nil, errors.New("the simulation was deleted, and another one has its name")
	}
	s.updates++
	if s.recent == nil {
		s.recent = map[int64]timeline.Row{}
	}
	for _, row := range rows {
		s.recent[row.Second] = row
	}
	maps.DeleteFunc(s.recent, func(_ int64, r timeline.Row) bool { return !r.End().After(from) })
	all := make([]timeline.Row, 0, len(s.recent))
	for _, second := range slices.Sorted(maps.Keys(s.recent)) {
		all = append(all, s.recent[second])
	}
	return within(all, from, to), nil
}
