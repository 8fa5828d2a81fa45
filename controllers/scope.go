package controllers

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// scope is the state of one reconcile of one simulation. The comments say which phase sets each field.
type scope struct {
	// Set before the first phase. sim has its defaults, and phases write its status. before is the simulation as it
	// was read.
	sim, before *v1alpha1.ParkingSimulation
	key         client.ObjectKey
	now         time.Time
	// Set before the first phase. If the spec is invalid, invalid holds the errors, and the other fields are nil.
	// resolved holds the defaulted simulation, its plan and warnings.
	resolved *manifest.Resolved
	plan     *plan.Plan
	warnings []string
	invalid  error

	// Set by gather: the simulation's objects and pods in the cache, and the optional kinds that the cluster serves.
	// Phases must not modify the objects, because the cache shares them.
	children map[childKey]client.Object
	pods     []*corev1.Pod
	served   served

	// Set by resolveBindings.
	broker, store server
	summaryAPI    credentialsSecret
	// secretsRead lists the Secrets that this reconcile has read. A change of one of them causes the next reconcile.
	secretsRead []client.ObjectKey

	// Set by ensureCredentials.
	credentials resources.Credentials

	// Set by build.
	desired []client.Object

	// Set by assessWorkloads.
	workloads map[resources.Component]workload

	// Set by observe: the latest observation of the simulation's servers, or nil before the first one.
	observation *observer.Observation
	// timeline has the latest recorded measurements, or is nil if this reconcile does not need them.
	timeline []timeline.Row

	// Set by rehearse: the records of the faults. They are unknown until the journal of the faults is loaded.
	faults      []fault.Record
	faultsKnown bool

	// Every phase may add findings and call wakeAfter. A wake of 0 means that no reconcile is scheduled.
	findings findings
	wake     time.Duration
}

// childKey identifies an object of a simulation by its kind and name.
type childKey struct {
	kind, name string
}

// newScope derives everything that depends only on the spec, once per reconcile.
func newScope(sim *v1alpha1.ParkingSimulation, now time.Time) *scope {
	s := &scope{
		before: sim, key: client.ObjectKeyFromObject(sim), now: now,
		children: map[childKey]client.Object{}, workloads: map[resources.Component]workload{},
	}
	resolved, faults := manifest.Resolve(sim)
	if s.invalid = faults.Err(); s.invalid != nil {
		s.sim = sim.DeepCopy()
		s.sim.Default()
		return s
	}
	s.resolved = resolved
	s.sim, s.plan, s.warnings = resolved.Simulation, resolved.Plan, resolved.Warnings
	if end, ok := endOf(s.sim); ok && s.isAborted() {
		s.plan.Duration = plan.Duration(end.Sub(s.sim.Status.StartTime.Time)) // generators and faults stop at once
	}
	return s
}

// wakeAfter requests another reconcile after d. If several are requested, the earliest one counts.
func (s *scope) wakeAfter(d time.Duration) {
	d = max(d, time.Millisecond)
	if s.wake == 0 || d < s.wake {
		s.wake = d
	}
}

func (s *scope) podsOf(c resources.Component) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range s.pods {
		if componentOf(pod.Labels) == c {
			pods = append(pods, pod)
		}
	}
	return pods
}

// addressesOf returns the sorted IP addresses of a component's running pods.
func (s *scope) addressesOf(c resources.Component) []string {
	var addresses []string
	for _, pod := range s.podsOf(c) {
		if isRunning(pod) && pod.Status.PodIP != "" {
			addresses = append(addresses, pod.Status.PodIP)
		}
	}
	slices.Sort(addresses)
	return addresses
}

func (s *scope) isComplete() bool { return s.sim.Status.CompletionTime != nil }

// managesBroker and managesStore report whether the operator runs RabbitMQ or Redis for the simulation.
func (s *scope) managesBroker() bool { return s.sim.Spec.RabbitMQ.ManagedOrDefault() != nil }
func (s *scope) managesStore() bool  { return s.sim.Spec.Redis.ManagedOrDefault() != nil }
