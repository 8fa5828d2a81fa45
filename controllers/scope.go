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

// scope is the state of one reconcile of one simulation. A reconcile consists of phases, and the comments say which
// phase sets each field.
type scope struct {
	// newScope sets the fields from here to invalid. before is the simulation as it was read, and sim also has the
	// defaults. The phases change the status of sim.
	sim, before *v1alpha1.ParkingSimulation
	key         client.ObjectKey
	now         time.Time
	// If the spec is invalid, invalid contains the errors, and resolved, plan and warnings are nil.
	resolved *manifest.Resolved
	plan     *plan.Plan
	warnings []string
	invalid  error

	// The gather phase sets the fields children, pods and served. Phases must not modify the objects in these fields,
	// because the cache shares the objects.
	children map[childKey]client.Object
	pods     []*corev1.Pod
	served   served

	// The resolveBindings phase sets the fields from here to secretsRead.

	// broker is RabbitMQ, and store is Redis. database is the PostgreSQL server of a managed summary API, or empty with
	// SQLite.
	broker, store, database server
	summaryAPI              credentialsSecret
	// summaries is the managed summary API. metrics stands for the metrics servers of the generators and processors.
	// Both have a certificate, but no binding.
	summaries, metrics server
	// certificateVersions contains, for each component, the versions of the Secrets with its certificates.
	certificateVersions map[resources.Component][]string
	// missing contains the names of the Secrets to which the spec refers, but which do not exist.
	missing map[string]bool
	// secretsRead lists the Secrets that this reconcile has read. If one of them changes, another reconcile follows.
	secretsRead []client.ObjectKey

	// taken contains the desired objects whose names other owners use. The checkNames phase, and the phases that read
	// the simulation's own Secrets, add entries.
	taken map[childKey]*apply.NameTakenError
	// withheld contains the objects that must not be created: those in the field taken, all objects that refer to
	// those, and servers that need a Secret that pods must not mount.
	withheld map[childKey]bool
	// limited contains StatefulSets that must get no more replicas, because new pods might use volume claims of another
	// owner. The checkNames phase sets limited and withheld.
	limited map[childKey]bool

	// The ensureCredentials phase sets credentials and trusted. For each component with TLS, trusted contains the CA
	// certificates and the host name that verify its pods.
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

	// faultsEdited is true if the faults in the spec were edited since the previous reconcile. The trackEdits phase
	// sets this field.
	faultsEdited bool

	// The rehearse phase sets the fields from here to accountsSoFar.
	faults        []fault.Record
	faultHistory  fault.History   // sums up the occurrences whose records were removed
	faultsKnown   bool            // true once the records of the faults are loaded
	accountsSoFar []fault.Account // the effect of each fault so far, and whether the simulation has recovered
	// held says why and until when edits of workloads wait, or is empty. The phases resolveBindings and rehearse set
	// this field.
	held hold

	// finalRecoveries contains Kubernetes events about faults whose outcome became known when the simulation became
	// complete. The operator records them after it has written the status.
	finalRecoveries []notice

	// Every phase may add findings. wake is the delay until the next reconcile, or 0 if no phase has requested one.
	findings findings
	wake     time.Duration
}

// hold says why and until when edits of workloads wait. The field until completes a message such as "The change waits
// until fault stall/0 has ended".
type hold struct {
	reason, until string
}

// childKey identifies an object of a simulation by its kind and name.
type childKey struct {
	kind, name string
}

// newScope returns the scope of a new reconcile. It validates the spec and derives the plan once for all phases.
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

// addressOf returns the IP address of a running pod of a component, preferably of a ready pod. It returns "" if no
// running pod has an address. As long as the pods do not change, the result does not change.
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
