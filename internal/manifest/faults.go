package manifest

import (
	"strings"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/plan"
)

func (c *checks) faults(path field.Path, s *v1alpha1.ParkingSimulationSpec) {
	c.entries(path, len(s.Faults), plan.MaxFaults)
	names := make([]string, len(s.Faults))
	for i := range s.Faults {
		names[i] = s.Faults[i].Name
		c.fault(path.Index(i), &s.Faults[i], s)
	}
	c.FaultNames(path, names)
}

func (c *checks) fault(path field.Path, f *v1alpha1.Fault, s *v1alpha1.ParkingSimulationSpec) {
	c.faultTarget(path.Child("target"), f.Target, s)
	if f.Action == "" {
		c.required(path.Child("action"), "say what happens to the target: Kill, Restart, Evict, Pause or Isolate")
	} else {
		c.FaultAction(path.Child("action"), plan.FaultAction(f.Action))
	}
	if _, _, err := f.Pods.Parse(); err != nil {
		c.Invalid(path.Child("pods"), string(f.Pods), "%s", err)
	}
	if f.At == nil {
		c.required(path.Child("at"), `say when the fault first occurs, such as "2m"`)
	}
	before := len(c.Errors)
	var t plan.FaultTimes
	t.At, _ = c.length(path.Child("at"), f.At, true, "2m")
	t.Every, _ = c.length(path.Child("every"), f.Every, true, "5m")
	t.Jitter, _ = c.length(path.Child("jitter"), f.Jitter, true, "30s")
	t.For, _ = c.length(path.Child("for"), f.For, false, "20s")
	if s.Duration != nil {
		t.Simulation = plan.Length{Value: s.Duration.Value(), Text: string(*s.Duration)}
	}
	if len(c.Errors) == before && f.At != nil && f.Action != "" {
		c.FaultTimes(path, plan.FaultAction(f.Action), t)
	}
}

// faultTarget checks the target of a fault. The target must be a server that the operator runs, or a component
// of the simulation.
func (c *checks) faultTarget(path field.Path, target v1alpha1.FaultTarget, s *v1alpha1.ParkingSimulationSpec) {
	if target == "" {
		c.required(path, "say what the fault hits, such as Redis or Processor")
		return
	}
	c.FaultTarget(path, plan.FaultTarget(target))
	c.FaultLeader(path, plan.FaultTarget(target), plan.QueueType(strings.ToLower(string(s.RabbitMQ.QueueType))), "rabbitmq.queueType")
	if external := externalServer(target, s); external != "" {
		c.Invalid(path, string(target), "a fault cannot target an external server: remove the fault, or remove %s to run a managed server", external)
	}
}

// externalServer returns the spec field that makes the fault's target an external server. It returns "" if the
// operator runs the target itself.
func externalServer(target v1alpha1.FaultTarget, s *v1alpha1.ParkingSimulationSpec) string {
	switch target {
	case v1alpha1.FaultTargetRabbitMQ, v1alpha1.FaultTargetRabbitMQLeader:
		if s.RabbitMQ.ClusterRef != nil {
			return "rabbitmq.clusterRef"
		}
		if s.RabbitMQ.SecretRef != nil {
			return "rabbitmq.secretRef"
		}
	case v1alpha1.FaultTargetRedis:
		if s.Redis.SecretRef != nil {
			return "redis.secretRef"
		}
	case v1alpha1.FaultTargetSummaryAPI:
		if s.SummaryAPI.URL != "" {
			return "summaryAPI.url"
		}
	case v1alpha1.FaultTargetProcessor, v1alpha1.FaultTargetEntryGenerator, v1alpha1.FaultTargetExitGenerator:
	}
	return ""
}

func faultsOf(s *v1alpha1.ParkingSimulationSpec) []plan.Fault {
	var faults []plan.Fault
	for i := range s.Faults {
		f := &s.Faults[i]
		number, percent, _ := f.Pods.Parse() // the spec is valid
		faults = append(faults, plan.Fault{
			Name: f.Name, Target: plan.FaultTarget(f.Target), Action: plan.FaultAction(f.Action),
			Instances: number, Percent: percent,
			At: durationOf(f.At), Every: durationOf(f.Every), Jitter: durationOf(f.Jitter), For: durationOf(f.For),
		})
	}
	return faults
}

// faults warns if a fault is to hit more pods than its target has.
func (w *warner) faults() {
	for i := range w.spec.Faults {
		f := &w.spec.Faults[i]
		pods := w.podsOf(f.Target)
		switch number, _, _ := f.Pods.Parse(); {
		case pods == 0:
			w.warn("the fault %q will not be injected, and the verdict will be FAIL: %s has no pods", f.Name, f.Target)
		case number > pods:
			w.warn("the fault %q is for %d pods, but %s has %d: it hits all of them", f.Name, number, f.Target, pods)
		}
	}
}

func (w *warner) podsOf(target v1alpha1.FaultTarget) int {
	switch target {
	case v1alpha1.FaultTargetEntryGenerator:
		return w.plan.Entry.Replicas
	case v1alpha1.FaultTargetExitGenerator:
		return w.plan.Exit.Replicas
	case v1alpha1.FaultTargetProcessor:
		return int(*w.spec.Processor.Replicas)
	case v1alpha1.FaultTargetRabbitMQ:
		return int(*w.spec.RabbitMQ.ManagedOrDefault().Replicas)
	case v1alpha1.FaultTargetRabbitMQLeader, v1alpha1.FaultTargetRedis, v1alpha1.FaultTargetSummaryAPI:
	}
	return 1
}
