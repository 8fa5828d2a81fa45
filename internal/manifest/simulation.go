package manifest

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Resolved is a valid simulation, together with the values that are derived from its spec.
type Resolved struct {
	// Simulation is a copy of the simulation, with defaults set.
	Simulation *v1alpha1.ParkingSimulation
	// Plan is derived from the spec and status.startTime. The caller must set RabbitMQ, Redis and SummaryAPI; only the
	// URL of an external summary API is already set.
	Plan *plan.Plan
	// Warnings contains one sentence for each setting that is valid but probably a mistake.
	Warnings []string
}

// Resolve sets defaults in a copy of the simulation and validates it. If it is invalid, Resolve returns nil and the
// errors. Call Resolve once per version, and pass on its result.
func Resolve(sim *v1alpha1.ParkingSimulation) (*Resolved, field.ErrorList) { return resolve(sim, nil) }

// resolve is like Resolve, but its errors quote the values that source returns.
func resolve(sim *v1alpha1.ParkingSimulation, source func(field.Path, any) any) (*Resolved, field.ErrorList) {
	sim = sim.DeepCopy()
	sim.Default()
	if errs := validate(sim, source); len(errs) > 0 {
		return nil, errs
	}
	p := planOf(sim)
	return &Resolved{Simulation: sim, Plan: p, Warnings: warnings(sim, p)}, nil
}

// Identity returns a plan with only the fields that identify a simulation's queues and Redis keys. It accepts an
// invalid spec, because the queues and keys of an invalid simulation must also be deleted. Defaults must be set.
func Identity(sim *v1alpha1.ParkingSimulation) *plan.Plan {
	p := &plan.Plan{
		Simulation: ID(sim), Owner: string(sim.UID), Partitions: int(*sim.Spec.RabbitMQ.Partitions), QueueType: plan.QueueTypeQuorum,
	}
	if sim.Spec.RabbitMQ.QueueType == v1alpha1.QueueTypeClassic {
		p.QueueType = plan.QueueTypeClassic
	}
	if p.Partitions < 1 || p.Partitions > plan.MaxPartitions || sim.Spec.Undecodable != nil {
		p.Partitions = plan.MaxPartitions // the number of partitions is unknown, so include all that may exist
	}
	return p
}

func planOf(sim *v1alpha1.ParkingSimulation) *plan.Plan {
	spec, identity := &sim.Spec, Identity(sim)
	p := &plan.Plan{
		Simulation:   identity.Simulation,
		Owner:        identity.Owner,
		Seed:         uint64(*spec.Seed),
		Duration:     durationOf(spec.Duration),
		DrainTimeout: durationOf(spec.DrainTimeout),
		Suspended:    spec.Suspend,
		Partitions:   identity.Partitions,
		QueueType:    identity.QueueType,
		Entry:        plan.Entry{Schedule: scheduleOf(*spec.Entry.Rate, &spec.Entry.GeneratorSpec)},
		Exit: plan.Exit{
			Schedule:     scheduleOf(*spec.Exit.Rate, &spec.Exit.GeneratorSpec),
			MatchPercent: int(*spec.Exit.MatchPercent),
			MinStay:      durationOf(spec.Exit.MinStay),
		},
		MaxStay:   durationOf(spec.Plates.MaxStay),
		Processor: plan.Processor{Concurrency: int(*spec.Processor.Concurrency)},
		Faults:    FaultsOf(spec),
		Objectives: plan.Objectives{
			PhaseObjectives: phaseObjectivesOf(&spec.Objectives.PhaseObjectivesSpec),
			WithoutFaults:   phaseObjectivesOf(&spec.Objectives.WithoutFaults),
			UnderFaults:     phaseObjectivesOf(&spec.Objectives.UnderFaults),
			MaxRecovery:     durationOf(spec.Objectives.MaxRecovery),
			MaxLost:         *spec.Objectives.MaxLost,
			MaxUnexpected:   *spec.Objectives.MaxUnexpected,
			AbortOnFailure:  spec.Objectives.AbortOnFailure,
		},
		SummaryAPI: plan.SummaryAPI{URL: spec.SummaryAPI.URL, External: spec.SummaryAPI.URL != ""},
	}
	if spec.Redis.Durability == v1alpha1.DurabilitySynced {
		p.Durability = plan.DurabilitySynced
	}
	if start := sim.Status.StartTime; start != nil {
		p.StartTime = start.UTC()
	}
	return p
}

// ID returns the identifier of a simulation on shared servers: <namespace>.<name>. It is unique, because a namespace
// cannot contain a dot.
func ID(sim *v1alpha1.ParkingSimulation) string {
	namespace := sim.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return namespace + "." + sim.Name
}

func scheduleOf(rate int32, g *v1alpha1.GeneratorSpec) plan.Schedule {
	s := plan.Schedule{Rate: int64(rate), Arrivals: plan.Arrivals(g.Arrivals), Replicas: int(*g.Replicas)}
	for _, stage := range g.Stages {
		s.Stages = append(s.Stages, plan.Stage{Duration: durationOf(stage.Duration), Rate: int64(*stage.Rate)})
	}
	return s
}

func phaseObjectivesOf(o *v1alpha1.PhaseObjectivesSpec) plan.PhaseObjectives {
	achieved := 0
	if o.MinAchievedPercent != nil {
		achieved = int(*o.MinAchievedPercent)
	}
	return plan.PhaseObjectives{
		ProcessingP99: durationOf(o.ProcessingP99), EndToEndP99: durationOf(o.EndToEndP99),
		MaxLag: durationOf(o.MaxLag), MinAchievedPercent: achieved,
	}
}

func durationOf(d *v1alpha1.Duration) plan.Duration { return plan.Duration(d.Value()) }
