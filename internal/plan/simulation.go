package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// FromSimulation derives the plan of a simulation from its spec, with defaults for what that leaves out,
// and from status.startTime. Where the servers are depends on who runs the plan: of RabbitMQ, Redis and
// SummaryAPI only the address of an API of the user's own is set. The simulation is not changed; the error
// is that of Validate, on one line.
func FromSimulation(sim *v1alpha1.ParkingSimulation) (*Plan, error) {
	sim = sim.DeepCopy()
	sim.Default()
	if faults := Validate(sim); len(faults) > 0 {
		return nil, oneLine(faults)
	}
	spec := &sim.Spec
	p := &Plan{
		Simulation: SimulationID(sim),
		Seed:       uint64(*spec.Seed),
		Duration:   durationOf(spec.Duration),
		Suspended:  spec.Suspend,
		Partitions: int(*spec.RabbitMQ.Partitions),
		QueueType:  QueueType(strings.ToLower(string(spec.RabbitMQ.QueueType))),
		Entry:      Entry{Schedule: scheduleOf(*spec.Entry.Rate, &spec.Entry.GeneratorSpec)},
		Exit: Exit{
			Schedule:     scheduleOf(*spec.Exit.Rate, &spec.Exit.GeneratorSpec),
			MatchPercent: int(*spec.Exit.MatchPercent),
			MinStay:      durationOf(spec.Exit.MinStay),
		},
		MaxStay:   durationOf(spec.Plates.MaxStay),
		Processor: Processor{Concurrency: int(*spec.Processor.Concurrency)},
		Objectives: Objectives{
			ProcessingP99: durationOf(spec.Objectives.ProcessingP99),
			EndToEndP99:   durationOf(spec.Objectives.EndToEndP99),
			MaxLost:       *spec.Objectives.MaxLost,
			MaxUnexpected: *spec.Objectives.MaxUnexpected,
		},
		SummaryAPI: SummaryAPI{URL: spec.SummaryAPI.URL, External: spec.SummaryAPI.URL != ""},
	}
	if start := sim.Status.StartTime; start != nil {
		p.StartTime = start.UTC()
	}
	return p, nil
}

// SimulationID returns what identifies a simulation on shared servers: <namespace>.<name>. Neither part
// has a dot in it. Without a namespace the simulation is in "default".
func SimulationID(sim *v1alpha1.ParkingSimulation) string {
	namespace := sim.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return namespace + "." + sim.Name
}

func scheduleOf(rate int32, g *v1alpha1.GeneratorSpec) Schedule {
	s := Schedule{Rate: int64(rate), Arrivals: Arrivals(g.Arrivals), Replicas: int(*g.Replicas)}
	for _, stage := range g.Stages {
		s.Stages = append(s.Stages, Stage{Duration: durationOf(stage.Duration), Rate: int64(*stage.Rate)})
	}
	return s
}

// durationOf returns 0 for a duration that is not set.
func durationOf(d *metav1.Duration) Duration {
	if d == nil {
		return 0
	}
	return Duration(d.Duration)
}

// Warnings says, one sentence each, what a valid simulation will probably not do as its author expects.
func Warnings(sim *v1alpha1.ParkingSimulation) []string {
	p, err := FromSimulation(sim)
	if err != nil {
		return nil
	}
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }

	const longStages = "%s.stages take %s, but the simulation ends after %s: the rest will not take place"
	entries, exits := p.Entry.finalRate(), p.Exit.finalRate()
	if percent := int64(p.Exit.MatchPercent); exits*percent > entries*100 {
		warn("%d %% of %d exits a second leave with a plate that entered, but only %d a second enter: the shortfall will be "+
			"counted as starved; raise entry.rate, or lower exit.rate or exit.matchPercent", percent, exits, entries)
	}
	if !p.Entry.asks() && !p.Exit.asks() {
		warn("entry.rate and exit.rate are 0: nothing will be published")
	}
	if p.Duration > 0 {
		if p.Exit.asks() && p.Exit.MinStay >= p.Duration {
			warn("exits begin exit.minStay, %s, after the entries, but the simulation ends after %s: no exit will be published", p.Exit.MinStay, p.Duration)
		}
		if length := p.Entry.length(); length > p.Duration.D() {
			warn(longStages, "entry", length, p.Duration)
		}
		if length := p.Exit.length(); length > p.Duration.D() {
			warn(longStages, "exit", length, p.Duration)
		}
	}
	if *defaulted(sim).Spec.Processor.Replicas == 0 {
		warn("processor.replicas is 0: events will stay in their queues")
	}
	return warnings
}

// asks reports whether the schedule asks for any event at any time.
func (s Schedule) asks() bool {
	return s.Rate > 0 || slices.ContainsFunc(s.Stages, func(stage Stage) bool { return stage.Rate > 0 })
}

// finalRate is the rate that holds in the end.
func (s Schedule) finalRate() int64 {
	if n := len(s.Stages); n > 0 {
		return s.Stages[n-1].Rate
	}
	return s.Rate
}

// length is how long the stages take.
func (s Schedule) length() time.Duration {
	var sum time.Duration
	for _, stage := range s.Stages {
		sum += stage.Duration.D()
	}
	return sum
}
