package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/sizing"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// requestOf sets those fields of the sizing request that the manifest determines.
func requestOf(r *sizing.Request, sim *v1alpha1.ParkingSimulation, p *plan.Plan) {
	r.EntriesPerSecond, r.ExitsPerSecond = peak(p)
	r.MatchPercent = p.Exit.MatchPercent
	r.MaxStay = p.MaxStay
	if p.Duration > 0 {
		r.Duration = p.Duration
	}
	r.Poisson = p.Entry.Arrivals == plan.ArrivalsPoisson || p.Exit.Arrivals == plan.ArrivalsPoisson
	spec := &sim.Spec
	if managed := spec.RabbitMQ.ManagedOrDefault(); managed != nil {
		r.RabbitMQNodes = int(*managed.Replicas)
	}
	managed := spec.SummaryAPI.ManagedOrDefault()
	r.External = sizing.External{
		RabbitMQ: r.External.RabbitMQ || spec.RabbitMQ.ManagedOrDefault() == nil,
		Redis:    r.External.Redis || spec.Redis.ManagedOrDefault() == nil,
		Database: r.External.Database || managed == nil || managed.Database != nil,
	}
}

// peak returns the rates when their sum is highest. Rates change linearly, so this is at the start of a schedule, at
// the end of a stage, or at the end of the simulation.
func peak(p *plan.Plan) (entries, exits int64) {
	times := []time.Duration{0, p.ExitDelay()}
	end := time.Duration(0)
	for _, stage := range p.Entry.Stages {
		end += stage.Duration.D()
		times = append(times, end)
	}
	end = p.ExitDelay()
	for _, stage := range p.Exit.Stages {
		end += stage.Duration.D()
		times = append(times, end)
	}
	for _, t := range times {
		if p.Duration > 0 && t > p.Duration.D() {
			t = p.Duration.D()
		}
		entry, exit := p.Entry.RateAt(t), p.Exit.RateAt(t-p.ExitDelay())
		if entry+exit > entries+exits {
			entries, exits = entry, exit
		}
	}
	return entries, exits
}

// shortage is a field of a manifest whose value is too small for the rates of the manifest.
type shortage struct {
	Field string `json:"field"` // "simulations" if one simulation cannot reach the rates
	Has   string `json:"has"`
	Needs string `json:"needs"`
}

// shortages returns the fields of a manifest whose values are less than the sizing result requires.
func shortages(sim *v1alpha1.ParkingSimulation, r *sizing.Result) []shortage {
	spec := &sim.Spec
	all := []shortage{}
	add := func(field string, has, needs int) {
		if has < needs {
			all = append(all, shortage{"spec." + field, strconv.Itoa(has), strconv.Itoa(needs)})
		}
	}
	if r.Simulations > 1 {
		all = append(all, shortage{"simulations", "1", strconv.Itoa(r.Simulations)})
	}
	add("rabbitmq.partitions", int(*spec.RabbitMQ.Partitions), r.Partitions)
	for i := range r.Components {
		p := &r.Components[i]
		switch p.Component {
		case sizing.Processor:
			add("processor.replicas", int(*spec.Processor.Replicas), p.Replicas)
			all = append(all, resourceShortages("processor", spec.Processor.Resources, p)...)
		case sizing.EntryGenerator:
			add("entry.replicas", int(*spec.Entry.Replicas), p.Replicas)
			all = append(all, resourceShortages("entry", spec.Entry.Resources, p)...)
		case sizing.ExitGenerator:
			add("exit.replicas", int(*spec.Exit.Replicas), p.Replicas)
			all = append(all, resourceShortages("exit", spec.Exit.Resources, p)...)
		case sizing.RabbitMQ:
			if m := spec.RabbitMQ.ManagedOrDefault(); m != nil {
				all = append(all, serverShortages("rabbitmq.managed", m.Storage, m.Resources, p)...)
			}
		case sizing.Redis:
			if m := spec.Redis.ManagedOrDefault(); m != nil {
				all = append(all, serverShortages("redis.managed", m.Storage, m.Resources, p)...)
			}
		case sizing.SummaryAPI:
			if m := spec.SummaryAPI.ManagedOrDefault(); m != nil {
				add("summaryAPI.managed.replicas", int(*m.Replicas), p.Replicas)
				all = append(all, serverShortages("summaryAPI.managed", m.Storage, m.Resources, p)...)
			}
		}
	}
	return all
}

func serverShortages(field string, storage v1alpha1.StorageSpec, resources *v1alpha1.ResourceRequirements, p *sizing.Pods) []shortage {
	all := resourceShortages(field, resources, p)
	size := storage.Size.Value()
	if p.DiskBytes > 0 && !size.IsZero() && size.Value() < p.DiskBytes {
		all = append(all, shortage{"spec." + field + ".storage.size", string(*storage.Size), memoryQuantity(p.DiskBytes)})
	}
	return all
}

// notSet stands for a CPU or memory request that the manifest omits.
const notSet = "not set"

// resourceShortages returns the requests and limits in a manifest that are too low for the pods of a component.
func resourceShortages(field string, r *v1alpha1.ResourceRequirements, p *sizing.Pods) []shortage {
	var all []shortage
	if r == nil {
		r = &v1alpha1.ResourceRequirements{}
	}
	field = "spec." + field + ".resources."
	for _, check := range []struct {
		name, needs string
		least       float64
	}{{"cpu", cpuQuantity(p.CPURequest), p.CPURequest}, {"memory", memoryQuantity(p.MemoryRequest), float64(p.MemoryRequest)}} {
		has, set := r.Requests[check.name]
		if !set {
			has, set = r.Limits[check.name] // without a request, Kubernetes uses the limit as the request
		}
		if value := has.Value(); set && value.AsApproximateFloat64() >= check.least {
			continue
		}
		if !set {
			has = notSet // an omitted resource is a shortage, because the operator's default suits only low rates
		}
		all = append(all, shortage{field + "requests." + check.name, string(has), check.needs})
	}
	if limit, set := r.Limits["memory"]; set {
		if value := limit.Value(); !value.IsZero() && value.Value() < p.MemoryRequest {
			all = append(all, shortage{field + "limits.memory", string(limit), memoryQuantity(p.MemoryRequest)})
		}
	}
	return all
}

func plannedManifests(name string, r *sizing.Result) ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Made by parking plan for %s events/s. docs/sizing.md explains the figures.\n# %s\n", terminal.Count(r.Total.EventsPerSecond), r.Measured)
	for i := range r.Simulations {
		planned := plannedSimulation(r, i)
		planned.Name = name
		if r.Simulations > 1 {
			planned.Name += fmt.Sprintf("-%d", i+1)
		}
		text, err := marshalManifest(planned)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}

// marshalManifest returns a simulation as YAML, without its status.
func marshalManifest(sim *v1alpha1.ParkingSimulation) ([]byte, error) {
	text, err := json.Marshal(sim)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, err
	}
	delete(object, "status")
	return yaml.Marshal(object)
}

func plannedSimulation(r *sizing.Result, index int) *v1alpha1.ParkingSimulation {
	planned := &v1alpha1.ParkingSimulation{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.Kind}}
	spec := &planned.Spec
	spec.Duration = v1alpha1.NewDuration(r.Request.Duration.D())
	spec.Plates.MaxStay = v1alpha1.NewDuration(r.Request.MaxStay.D())
	spec.Exit.MatchPercent = new(int32(r.Request.MatchPercent))
	spec.Entry.Rate = new(part(r.Request.EntriesPerSecond, r.Simulations, index))
	spec.Exit.Rate = new(part(r.Request.ExitsPerSecond, r.Simulations, index))
	spec.RabbitMQ.Partitions = new(int32(r.Partitions))
	for i := range r.Components {
		setPods(spec, &r.Components[i], r.Request.External)
	}
	return planned
}

// part returns the share of a total for the simulation with the given index.
func part(total int64, simulations, index int) int32 {
	share, rest := total/int64(simulations), total%int64(simulations)
	if int64(index) < rest {
		share++
	}
	return int32(share)
}

// setPods writes the planned pods of one component into a spec. For an external server or database, the spec refers to
// a Secret that the user must create.
func setPods(spec *v1alpha1.ParkingSimulationSpec, p *sizing.Pods, external sizing.External) {
	replicas, resources := new(int32(p.Replicas)), resourcesOf(p)
	storage := v1alpha1.StorageSpec{Size: new(v1alpha1.Quantity(memoryQuantity(p.DiskBytes)))}
	switch p.Component {
	case sizing.Processor:
		spec.Processor.Replicas, spec.Processor.Resources = replicas, resources
	case sizing.EntryGenerator:
		spec.Entry.Replicas, spec.Entry.Resources = replicas, resources
	case sizing.ExitGenerator:
		spec.Exit.Replicas, spec.Exit.Resources = replicas, resources
	case sizing.RabbitMQ:
		if external.RabbitMQ {
			spec.RabbitMQ.SecretRef = &v1alpha1.SecretReference{Name: "rabbitmq"}
			return
		}
		spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Replicas: replicas, Resources: resources, Storage: storage}
	case sizing.Redis:
		if external.Redis {
			spec.Redis.SecretRef = &v1alpha1.SecretReference{Name: "redis"}
			return
		}
		spec.Redis.Managed = &v1alpha1.ManagedRedis{Resources: resources, Storage: storage}
	case sizing.SummaryAPI:
		m := &v1alpha1.ManagedSummaryAPI{Replicas: replicas, Resources: resources, Storage: storage}
		if external.Database {
			m.Database, m.Storage = &v1alpha1.SummaryDatabase{SecretRef: v1alpha1.SecretReference{Name: "postgresql"}}, v1alpha1.StorageSpec{}
		}
		spec.SummaryAPI.Managed = m
	}
}

// resourcesOf returns the requests of a pod, and its memory limit.
func resourcesOf(p *sizing.Pods) *v1alpha1.ResourceRequirements {
	r := &v1alpha1.ResourceRequirements{Requests: v1alpha1.ResourceList{
		"cpu": v1alpha1.Quantity(cpuQuantity(p.CPURequest)), "memory": v1alpha1.Quantity(memoryQuantity(p.MemoryRequest)),
	}}
	if limit := memoryLimit(p); limit > 0 {
		r.Limits = v1alpha1.ResourceList{"memory": v1alpha1.Quantity(memoryQuantity(limit))}
	}
	return r
}

// memoryLimit returns the memory limit that a pod needs, or 0 if it needs no limit. The result is never below the
// operator's default limit.
func memoryLimit(p *sizing.Pods) int64 {
	const mebibyte = 1 << 20
	switch p.Component {
	case sizing.RabbitMQ:
		// RabbitMQ 4 blocks publishers at about half of the memory limit, and earlier versions at a third. Four times
		// the request keeps both thresholds above the request.
		return max(4*p.MemoryRequest, 1024*mebibyte)
	case sizing.Redis:
		// Redis gets no memory limit. Otherwise, the operator would set maxmemory to 70 % of the limit, and Redis would
		// reject writes beyond maxmemory.
		return 0
	}
	return max(2*p.MemoryRequest, 512*mebibyte)
}
