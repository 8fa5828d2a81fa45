package controllers

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// scope is the state of one reconcile of one simulation. The comments say which phase sets each field.
type scope struct {
	// These fields are set before the first phase. The field sim contains the simulation with its defaults, and phases
	// write its status. The field before contains the simulation as the operator has read it.
	sim, before *v1alpha1.ParkingSimulation
	key         client.ObjectKey
	now         time.Time
	// These fields are set before the first phase. If the spec has errors, the field invalid contains them,
	// and the other fields are nil. Otherwise the field resolved contains the simulation with its defaults, the plan and
	// the warnings.
	resolved *manifest.Resolved
	plan     *plan.Plan
	warnings []string
	invalid  error

	// The gather phase sets the fields children, pods and served. They contain the simulation's objects and pods in the
	// cache, and the optional kinds that the API server serves. Phases must not modify the objects, because the cache
	// shares them.
	children map[childKey]client.Object
	pods     []*corev1.Pod
	served   served

	// These fields are set by the resolveBindings phase. The field database is the PostgreSQL server of a managed
	// summary API. It is empty if the summary API uses SQLite. The operator does not connect to PostgreSQL.
	broker, store, database server
	summaryAPI              credentialsSecret
	// summaries describes the managed summary API. metrics describes the metrics servers of the generators and
	// processors. Only the fields about their certificates are used.
	summaries, metrics server
	// certificateVersions contains, for each component, the versions of the Secrets with its certificates.
	certificateVersions map[resources.Component][]string
	// missing contains the names of the Secrets that the spec names and that do not exist.
	missing map[string]bool
	// secretsRead lists the Secrets that this reconcile has read. If one of them changes, another reconcile follows.
	secretsRead []client.ObjectKey

	// The map taken contains the desired objects whose names are taken by objects of other owners. The phases that read
	// the simulation's own Secrets and the checkNames phase add to this map.
	taken map[childKey]*apply.NameTakenError
	// withheld contains the objects that are not created and, if they are workloads, get no pods: the objects in the
	// map taken, the objects that refer to these directly or through other objects, and the servers whose pods must not
	// mount a Secret that the spec names. The checkNames phase sets this map.
	withheld map[childKey]bool
	// limited contains the StatefulSets that must not get more replicas. A new pod would use a PersistentVolumeClaim
	// that exists already, and that may belong to somebody else. The checkNames phase sets this map.
	limited map[childKey]bool

	// The ensureCredentials phase sets the fields credentials and trusted. The map trusted contains, for each component
	// that uses TLS, the CA certificates and the host name with which to verify its pods.
	credentials resources.Credentials
	trusted     map[resources.Component]podhttp.Server

	// desired contains the desired objects of the simulation. The build phase sets this field.
	desired []client.Object

	// workloads contains the state of each workload. The assessWorkloads phase sets this field.
	workloads map[resources.Component]workload

	// observation is the latest observation of the simulation's servers, or nil before the first observation. The
	// observe phase sets this field.
	observation *observer.Observation
	// timeline contains the latest measurements. It is nil if this reconcile does not need them.
	timeline []timeline.Row

	// faultsEdited is true if the faults were edited since the last reconcile. The trackEdits phase sets this field.
	faultsEdited bool

	// The rehearse phase sets these fields. The field faults contains the records of injected faults, and faultsKnown
	// is false until these records are loaded. accountsSoFar contains, for each fault, its effect so far and whether
	// the simulation has recovered from it. faultHistory sums up the occurrences whose records were removed.
	faults        []fault.Record
	faultHistory  fault.History
	faultsKnown   bool
	accountsSoFar []fault.Account
	// held says why edits of workloads must wait, and until when. It is empty if they need not wait.
	held hold

	// finalRecoveries contains the Kubernetes events about faults whose outcome became known only when the simulation
	// became complete. The operator records these events after it has written the status.
	finalRecoveries []notice

	// Every phase may add findings and may call wakeAfter, which sets wake. If wake is 0, no reconcile is requested.
	findings findings
	wake     time.Duration
}

// hold says why and until when edits of workloads wait. The field until completes a sentence such as "The change waits
// until fault stall/0 has ended".
type hold struct {
	reason, until string
}

// childKey identifies an object of a simulation by its kind and name.
type childKey struct {
	kind, name string
}

// newScope derives everything that depends only on the spec, so that it is derived only once per reconcile.
func newScope(sim *v1alpha1.ParkingSimulation, now time.Time) *scope {
	s := &scope{
		before: sim, key: client.ObjectKeyFromObject(sim), now: now,
		children: map[childKey]client.Object{}, workloads: map[resources.Component]workload{},
		certificateVersions: map[resources.Component][]string{}, trusted: map[resources.Component]podhttp.Server{},
		taken: map[childKey]*apply.NameTakenError{}, withheld: map[childKey]bool{}, limited: map[childKey]bool{},
		missing: map[string]bool{},
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
		// Let the plan end at the time of the abort, so that generators and faults stop at once.
		s.plan.Duration = plan.Duration(end.Sub(s.sim.Status.StartTime.Time))
	}
	return s
}

// wakeAfter requests another reconcile after d. If it is called several times, the shortest duration counts.
func (s *scope) wakeAfter(d time.Duration) {
	d = max(d, time.Millisecond)
	if s.wake == 0 || d < s.wake {
		s.wake = d
	}
}

// livePodsOf returns the pods of a component that have not ended. An evicted pod has ended, but its object remains in
// phase Failed, sometimes for hours.
func (s *scope) livePodsOf(c resources.Component) []*corev1.Pod {
	return slices.DeleteFunc(s.podsOf(c), func(pod *corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
	})
}

// podsOf returns the pods of a component, including those that have ended.
func (s *scope) podsOf(c resources.Component) []*corev1.Pod {
	var pods []*corev1.Pod
	for _, pod := range s.pods {
		if componentOf(pod.Labels) == c {
			pods = append(pods, pod)
		}
	}
	return pods
}

// addressOf returns the IP address of a running pod of a component, preferably of a ready one. It returns "" if no pod
// is running. As long as the pods do not change, it always returns the same address.
func (s *scope) addressOf(c resources.Component) string {
	var ready, others []string
	for _, pod := range s.podsOf(c) {
		switch {
		case !isRunning(pod) || pod.Status.PodIP == "":
		case resources.IsReady(pod):
			ready = append(ready, pod.Status.PodIP)
		default:
			others = append(others, pod.Status.PodIP)
		}
	}
	slices.Sort(ready)
	slices.Sort(others)
	if addresses := slices.Concat(ready, others); len(addresses) > 0 {
		return addresses[0]
	}
	return ""
}

func (s *scope) isComplete() bool { return s.sim.Status.CompletionTime != nil }

// managesBroker reports whether the operator runs RabbitMQ for the simulation. managesStore reports the same for
// Redis.
func (s *scope) managesBroker() bool { return s.sim.Spec.RabbitMQ.ManagedOrDefault() != nil }
func (s *scope) managesStore() bool  { return s.sim.Spec.Redis.ManagedOrDefault() != nil }
