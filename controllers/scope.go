package controllers

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// scope is what one reconcile of one simulation works on.
type scope struct {
	// sim is the simulation with its defaults. Phases write its status; before is as it was read.
	sim, before *v1alpha1.ParkingSimulation
	key         client.ObjectKey
	now         time.Time

	// live are the simulation's objects as the cache holds them, and pods its pods. None may be changed.
	live map[childKey]client.Object
	pods []*corev1.Pod
	// served says which kinds of others the cluster serves.
	served served

	broker, store server
	// summaryAPIVersion is the version of the Secret for a summary API of the user's.
	summaryAPIVersion string
	credentials       resources.Credentials
	desired           []client.Object
	workloads         map[resources.Component]workload

	findings findings
	// wake is when to come again without being called; 0 means never.
	wake time.Duration
}

// childKey tells the objects of a simulation apart.
type childKey struct {
	kind, name string
}

// server is a RabbitMQ or Redis that the simulation uses.
type server struct {
	managed bool
	// secret is the name of the Secret with its binding, for messages.
	secret string
	// data is the content of its binding; nil as long as it is not known. It holds a password.
	data map[string][]byte
	// version is that of the Secret that pods mount.
	version string
	// address is nil as long as it is not known.
	address *binding.Binding
	finding finding
}

func newScope(sim *v1alpha1.ParkingSimulation, now time.Time) *scope {
	s := &scope{
		sim: sim, before: sim.DeepCopy(), key: client.ObjectKeyFromObject(sim), now: now,
		live: map[childKey]client.Object{}, workloads: map[resources.Component]workload{},
	}
	sim.Default()
	return s
}

// wakeAfter asks for a reconcile after d, or earlier.
func (s *scope) wakeAfter(d time.Duration) {
	d = max(d, time.Millisecond)
	if s.wake == 0 || d < s.wake {
		s.wake = d
	}
}

// podsOf returns the pods of a component.
func (s *scope) podsOf(c resources.Component) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range s.pods {
		if componentOf(pod.Labels) == c {
			pods = append(pods, pod)
		}
	}
	return pods
}

// addressesOf returns the IP addresses of a component's pods that run, in order.
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

// managedBroker and managedStore report whether the simulation has a server for itself.
func (s *scope) managedBroker() bool { return s.sim.Spec.RabbitMQ.ManagedOrDefault() != nil }
func (s *scope) managedStore() bool  { return s.sim.Spec.Redis.ManagedOrDefault() != nil }
