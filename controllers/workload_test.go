package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

func TestAddressOf_SeveralPods_PrefersReadyPods(t *testing.T) {
	t.Parallel()
	pod := func(ip string, phase corev1.PodPhase, isReady corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{resources.ComponentLabel: string(resources.ComponentSummaries)}},
			Status: corev1.PodStatus{
				Phase: phase, PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: isReady}},
			},
		}
	}
	pending, starting, other := pod("10.0.0.1", corev1.PodPending, corev1.ConditionFalse), pod("10.0.0.2", corev1.PodRunning, corev1.ConditionFalse), pod("10.0.0.3", corev1.PodRunning, corev1.ConditionFalse)
	works, another := pod("10.0.0.8", corev1.PodRunning, corev1.ConditionTrue), pod("10.0.0.9", corev1.PodRunning, corev1.ConditionTrue)
	for want, pods := range map[string][]*corev1.Pod{
		"":         {pending},
		"10.0.0.2": {other, pending, starting},
		"10.0.0.8": {starting, another, works},
	} {
		s := &scope{pods: pods}
		if got := s.addressOf(resources.ComponentSummaries); got != want {
			t.Errorf("the address is %q, want %q", got, want)
		}
	}
}

// Only a pod of the summary API can count the stored summaries. Without this count, the verdict must not be PASS.
func TestDraining_NoPodOfTheSummaryAPI_WaitsUntilTheDrainTimeout(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	const duration, drain = 10 * time.Minute, 2 * time.Minute
	observed := workload{observed: true}
	missing := workload{desired: 1, observed: true}
	ready := workload{desired: 1, pods: 1, updated: 1, ready: 1, observed: true}
	for name, tt := range map[string]struct {
		summaries workload
		url       string
		after     time.Duration
		drains    bool
		down      bool
	}{
		"the pod is missing":                   {missing, "", duration + time.Second, false, false},
		"the pod is missing after the timeout": {missing, "", duration + drain, true, true},
		"the pod is ready":                     {ready, "", duration + time.Second, true, false},
		"the summary API is external":          {workload{}, "https://visits.example", duration + time.Second, true, false},
	} {
		sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
		sim.Spec.Duration, sim.Spec.DrainTimeout = v1alpha1.NewDuration(duration), v1alpha1.NewDuration(drain)
		sim.Spec.SummaryAPI.URL = tt.url
		sim.Status.StartTime = &metav1.Time{Time: start}
		s := newScope(sim, start.Add(tt.after))
		s.workloads[resources.ComponentEntry], s.workloads[resources.ComponentExit] = observed, observed
		s.workloads[resources.ComponentSummaries] = tt.summaries
		d := s.draining()
		if drains := d != nil; drains != tt.drains || drains && d.SummariesDown != tt.down {
			t.Errorf("%s: draining is %+v, want drains %t and down %t", name, d, tt.drains, tt.down)
		}
	}
}

func TestWorkloadAssess_EachStatus_ReturnsStateReasonAndMessage(t *testing.T) {
	t.Parallel()
	type dep = appsv1.DeploymentStatus
	type set = appsv1.StatefulSetStatus
	deployment := func(status dep) any { return &appsv1.Deployment{Status: status} }
	statefulSet := func(status set) any { return &appsv1.StatefulSet{Status: status} }
	stuck := []appsv1.DeploymentCondition{{
		Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Message: `ReplicaSet "a" has timed out progressing.`,
	}}
	refused := func(message string) []appsv1.DeploymentCondition {
		return []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Message: message}}
	}
	const template = " of the current template are ready"
	tests := map[string]struct {
		desired         int32
		live            any
		reason, message string
	}{
		"a Deployment that does not exist yet": {1, nil, reasonProgressing, "has not been rolled out yet"},
		"a Deployment whose controller has not seen the edit": {
			1, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: dep{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1}},
			reasonProgressing, "the latest change has not been rolled out yet",
		},
		"a Deployment that is ready": {2, deployment(dep{Replicas: 2, UpdatedReplicas: 2, ReadyReplicas: 2}), reasonReady, "2 of 2 pods are ready"},
		"a Deployment whose replicas were reduced": {
			1, deployment(dep{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3}), reasonReady, "1 of 1 pods are ready, 2 more are about to be deleted",
		},
		"a Deployment whose replicas were reduced, with one ready pod": {
			2, deployment(dep{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 1}), reasonProgressing, "1 of 2 pods are ready, 1 more is about to be deleted",
		},
		"no pods": {0, nil, reasonReady, "0 pods are desired"},
		"a rollout of 1 replica whose new pod hangs": {
			1, deployment(dep{Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1}), reasonProgressing, "0 of 1 pods" + template + ", 1 of an older template is still running",
		},
		"a rollout of 3 replicas whose last pod hangs": {
			3, deployment(dep{Replicas: 4, UpdatedReplicas: 3, ReadyReplicas: 3}), reasonProgressing, "2 of 3 pods" + template,
		},
		"a rollout after the replicas were reduced": {
			1, deployment(dep{Replicas: 5, UpdatedReplicas: 3, ReadyReplicas: 5}), reasonProgressing, "1 of 1 pods" + template + ", 2 of an older template are still running",
		},
		"a rollout that ends once an old pod has ended": {
			2, deployment(dep{Replicas: 3, UpdatedReplicas: 2, ReadyReplicas: 3}), reasonProgressing, "2 of 2 pods" + template,
		},
		"a rollout that exceeds its deadline": {
			1, deployment(dep{Replicas: 2, UpdatedReplicas: 1, ReadyReplicas: 1, Conditions: stuck}), reasonPodsFailing, "has timed out progressing",
		},
		"a quota that is exceeded": {
			1, deployment(dep{Conditions: refused(`pods "a" is forbidden: exceeded quota: q`)}), reasonQuota, "raise the namespace's quota",
		},
		"a quota that requires limits": {
			1, deployment(dep{Conditions: refused(`pods "a" is forbidden: failed quota: q: must specify limits.cpu for: parking`)}), reasonQuota, "set the resources that the namespace's quota requires",
		},
		"no quota for the priority class of the pods": {
			1, deployment(dep{Conditions: refused("insufficient quota to match these scopes: [{PriorityClass In [urgent]}]")}), reasonQuota, "create a ResourceQuota with these scopes",
		},
		"a quota that does not exist for a resource": {
			1, deployment(dep{Conditions: refused(`pods "a" is forbidden: insufficient quota to consume: requests.cpu`)}), reasonQuota, "create a ResourceQuota for these resources",
		},
		"a quota that is not counted yet": {
			1, deployment(dep{Conditions: refused(`pods "a" is forbidden: status unknown for quota: q, resources: pods`)}), reasonQuota, "wait until Kubernetes has counted",
		},
		"a StatefulSet that is ready": {1, statefulSet(set{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1}), reasonReady, "1 of 1 pods are ready"},
		"a StatefulSet whose updated pod hangs": {
			3, statefulSet(set{Replicas: 3, ReadyReplicas: 2, UpdatedReplicas: 1, CurrentRevision: "a", UpdateRevision: "b"}), reasonProgressing, "0 of 3 pods" + template,
		},
		"a StatefulSet that has not begun its update": {
			1, statefulSet(set{Replicas: 1, ReadyReplicas: 1, CurrentRevision: "a", UpdateRevision: "b"}), reasonProgressing, "0 of 1 pods" + template,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := workload{desired: tt.desired}
			w.observe(tt.live)
			f := w.assess("pods")
			if f.reason != tt.reason || !strings.Contains(f.message, tt.message) {
				t.Errorf("the finding is %s: %s\nwant %s: … %s …", f.reason, f.message, tt.reason, tt.message)
			}
			if isReady := f.state == ready; isReady != (tt.reason == reasonReady) {
				t.Errorf("ready is %t with reason %s", isReady, f.reason)
			}
		})
	}
}

func TestPersistentFailure_SchedulingFailure_IsReportedAfterFiveSeconds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		since    time.Duration
		reported bool
		wake     time.Duration
	}{
		"a failure younger than 5 s is ignored, and examined again": {since: 2 * time.Second, wake: 3 * time.Second},
		"a failure of 5 s is reported":                              {since: 5 * time.Second, reported: true},
		"an old failure is reported":                                {since: time.Hour, reported: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{}, now)
			failure := s.persistentFailure(&corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available",
				LastTransitionTime: metav1.NewTime(now.Add(-tt.since)),
			}}}})
			if reported := strings.Contains(failure, "0/1 nodes are available"); reported != tt.reported || s.wake != tt.wake {
				t.Errorf("the failure is %q with a wake after %v, want it reported: %v, after %v", failure, s.wake, tt.reported, tt.wake)
			}
		})
	}
}

// Kubernetes reports no failure of a pod on a lost node, or of a pod that never becomes ready. The operator reports
// both after a while.
func TestPersistentFailure_PodDoesNotEndOrBecomeReadyInTime_IsReported(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	ending := func(since time.Duration) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: new(metav1.NewTime(now.Add(-since)))}}
	}
	unready := func(since time.Duration) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{
			Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(now.Add(-since)),
		}}}}
	}
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want string
		wake time.Duration
	}{
		"the pod may still end":                    {ending(-time.Minute), "", 3 * time.Minute},
		"the pod should have ended long ago":       {ending(time.Hour), "pod p should have ended at 2026-05-04T07:00:00Z, but node n has not confirmed this", 0},
		"the pod may still become ready":           {unready(4 * time.Minute), "", time.Minute},
		"the pod has been unready for a long time": {unready(time.Hour), "pod p on node n runs, but has not been ready since 2026-05-04T07:00:00Z", 0},
	} {
		tt.pod.Name, tt.pod.Spec.NodeName = "p", "n"
		s := newScope(&v1alpha1.ParkingSimulation{}, now)
		if got := s.persistentFailure(tt.pod); !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") || s.wake != tt.wake {
			t.Errorf("%s: the failure is %q with a wake after %v, want %q after %v", name, got, s.wake, tt.want, tt.wake)
		}
	}
}

// The rate in the status must be 0 while no generator publishes events.
func TestSetTargetRates_GeneratorsHaveNoPods_RateIsZero(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	withheld := func(s *scope) { s.withheld[childKey{"Deployment", "sim-entry"}] = true }
	missing := func(s *scope) {
		s.missing["broker"] = true
		for name, replicas := range map[string]int32{"sim-entry": 0, "sim-exit": 1} {
			deployment := &appsv1.Deployment{}
			deployment.Spec.Replicas = &replicas
			deployment.Spec.Template.Spec.Volumes = []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "broker"}}},
			}
			s.children[childKey{"Deployment", name}] = deployment
		}
	}
	for name, prepare := range map[string]func(*scope){
		"no pods are desired":              func(s *scope) { s.workloads[resources.ComponentEntry] = workload{} },
		"a name is taken":                  withheld,
		"new pods would wait for a Secret": missing,
	} {
		sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
		sim.Status.StartTime = wholeSeconds(start)
		s := newScope(sim, start.Add(time.Hour))
		s.workloads[resources.ComponentEntry], s.workloads[resources.ComponentExit] = workload{desired: 1}, workload{desired: 1}
		prepare(s)
		s.setTargetRates()
		if got := *s.sim.Status.TargetRates; got.Entry != 0 || got.Exit == 0 {
			t.Errorf("%s: the rates are %+v, want only exits", name, got)
		}
	}
}

// Autoscalers (HPA, KEDA) use status.replicas as the current size, so it must count pods in every state.
func TestSetScale_EachStateOfTheDeployment_CountsAllPodsAndAllReadyPods(t *testing.T) {
	t.Parallel()
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim", UID: "1"}}
	deployment := func(owner types.UID, status appsv1.DeploymentStatus) *appsv1.Deployment {
		return &appsv1.Deployment{Status: status, ObjectMeta: metav1.ObjectMeta{
			Namespace: sim.Namespace, Name: resources.Name(sim, resources.ComponentProcessor),
			OwnerReferences: []metav1.OwnerReference{{UID: owner, Controller: new(true)}},
		}}
	}
	unreadable := interceptor.Funcs{Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
		return errors.New("the cache has not started")
	}}
	type status = appsv1.DeploymentStatus
	for name, tt := range map[string]struct {
		live        *appsv1.Deployment
		funcs       interceptor.Funcs
		pods, ready *int32
	}{
		"no Deployment":                        {nil, interceptor.Funcs{}, new(int32), new(int32)},
		"no pod yet":                           {deployment("1", status{}), interceptor.Funcs{}, new(int32), new(int32)},
		"5 pods, 1 ready":                      {deployment("1", status{Replicas: 5, UpdatedReplicas: 5, ReadyReplicas: 1}), interceptor.Funcs{}, new(int32(5)), new(int32(1))},
		"1 old pod ready, 4 new ones not":      {deployment("1", status{Replicas: 5, UpdatedReplicas: 4, ReadyReplicas: 1}), interceptor.Funcs{}, new(int32(5)), new(int32(1))},
		"3 ready pods, of which 1 will remain": {deployment("1", status{Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: 3}), interceptor.Funcs{}, new(int32(3)), new(int32(3))},
		"a Deployment of someone else":         {deployment("2", status{Replicas: 5, ReadyReplicas: 5}), interceptor.Funcs{}, new(int32), new(int32)},
		"a cache that cannot be read":          {deployment("1", status{Replicas: 5, ReadyReplicas: 5}), unreadable, nil, nil},
	} {
		builder := fake.NewClientBuilder().WithInterceptorFuncs(tt.funcs)
		if tt.live != nil {
			builder = builder.WithObjects(tt.live)
		}
		s := newScope(sim.DeepCopy(), time.Now())
		s.sim.Status.Replicas, s.sim.Status.ReadyReplicas = new(int32(7)), new(int32(7))
		(&Reconciler{client: builder.Build()}).setScale(t.Context(), s)
		want := v1alpha1.ParkingSimulationStatus{Replicas: tt.pods, ReadyReplicas: tt.ready, Selector: s.sim.Status.Selector}
		if diff := cmp.Diff(want, s.sim.Status); diff != "" || s.sim.Status.Selector == "" {
			t.Errorf("%s: the status (-want +got):\n%s", name, diff)
		}
	}
}

func TestRunning_SomeComponentsHavePods_NamesOnlyTheseComponents(t *testing.T) {
	t.Parallel()
	ready := func(n int32) workload { return workload{desired: n, ready: n} }
	for _, tt := range []struct {
		processors, entry, exit int32
		want                    string
	}{
		{0, 0, 0, "No generators or processors run: all of them have 0 replicas"},
		{2, 0, 0, "Running: 2 processors"},
		{1, 1, 3, "Running: 1 processor, 1 entry generator, 3 exit generators"},
	} {
		s := &scope{workloads: map[resources.Component]workload{
			resources.ComponentProcessor: ready(tt.processors), resources.ComponentEntry: ready(tt.entry), resources.ComponentExit: ready(tt.exit),
		}}
		if got := s.running(); got != tt.want {
			t.Errorf("the message is %q, want %q", got, tt.want)
		}
	}
}

// Columns such as ENTRY/S show the current rates of the stages, not the base rate.
func TestSetTargetRates_SpecHasStages_RatesFollowTheStages(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	stages := func(rate int32) []v1alpha1.Stage {
		return []v1alpha1.Stage{
			{Duration: v1alpha1.NewDuration(time.Minute), Rate: new(rate)}, {Duration: v1alpha1.NewDuration(time.Minute), Rate: new(rate)},
			{Duration: v1alpha1.NewDuration(time.Millisecond), Rate: new(int32(7))},
		}
	}
	for _, tt := range []struct {
		after       time.Duration
		suspended   bool
		entry, exit int64
	}{
		{0, false, 100, 0}, // at the start, no exits are due, because they begin after minStay
		{30 * time.Second, false, 600, 0},
		// Exits start after minStay and 500 ms, that is at 60.5 s. Their rate then rises from 0 to 100 within 60 s, so
		// at 90 s it is 100 * 29.5 / 60 = 49.
		{90 * time.Second, false, 1100, 49},
		{90 * time.Second, true, 0, 0},
		{150 * time.Second, false, 7, 100},
		{10 * time.Minute, false, 7, 7},
		{time.Hour, false, 0, 0},
	} {
		sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}
		sim.Spec.Duration, sim.Spec.Suspend = v1alpha1.NewDuration(time.Hour), tt.suspended
		sim.Spec.Entry.Rate, sim.Spec.Entry.Stages = new(int32(100)), stages(1100)
		sim.Spec.Exit.Rate, sim.Spec.Exit.Stages, sim.Spec.Exit.MinStay = new(int32(0)), stages(100), v1alpha1.NewDuration(time.Minute)
		sim.Status.StartTime = wholeSeconds(start)
		s := newScope(sim, start.Add(tt.after))
		if s.invalid != nil {
			t.Fatal(s.invalid)
		}
		s.workloads[resources.ComponentEntry], s.workloads[resources.ComponentExit] = workload{desired: 1}, workload{desired: 1}
		s.setTargetRates()
		if got := *s.sim.Status.TargetRates; got.Entry != tt.entry || got.Exit != tt.exit {
			t.Errorf("after %s, suspended %t: the rates are %+v, want %d and %d", tt.after, tt.suspended, got, tt.entry, tt.exit)
		}
	}
}

// An evicted pod remains in phase Failed. It must count as ended. Otherwise, a suspended simulation would never become
// ready.
func TestLivePodsOf_PodHasEnded_IsOmitted(t *testing.T) {
	t.Parallel()
	for phase, want := range map[corev1.PodPhase]int{
		corev1.PodPending: 1, corev1.PodRunning: 1, corev1.PodUnknown: 1, corev1.PodFailed: 0, corev1.PodSucceeded: 0,
	} {
		s := &scope{pods: []*corev1.Pod{generatorPod(phase)}}
		if got := len(s.livePodsOf(resources.ComponentEntry)); got != want {
			t.Errorf("%s: %d pods have not ended, want %d", phase, got, want)
		}
		if len(s.pods) != 1 || s.pods[0] == nil {
			t.Errorf("%s: the pods have changed", phase)
		}
	}
}

// If a server fails or is paused, no processor is ready. The condition must not report the processor pods as failed.
func TestPersistentFailure_CausedByFaultOrServer_IsNotReported(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }
	server := func(status metav1.ConditionStatus, since time.Duration) v1alpha1.ParkingSimulationStatus {
		return v1alpha1.ParkingSimulationStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionBrokerReady, Status: metav1.ConditionTrue, LastTransitionTime: ago(time.Hour)},
			{Type: v1alpha1.ConditionStoreReady, Status: status, LastTransitionTime: ago(since)},
		}}
	}
	faults := func(f v1alpha1.FaultsStatus) v1alpha1.ParkingSimulationStatus {
		return v1alpha1.ParkingSimulationStatus{Faults: &f}
	}
	healed := func(since time.Duration) v1alpha1.ParkingSimulationStatus {
		return faults(v1alpha1.FaultsStatus{Latest: []v1alpha1.FaultStatus{{HealedTime: new(ago(since))}, {}}})
	}
	const processor, redis = resources.ComponentProcessor, resources.ComponentRedis
	for name, tt := range map[string]struct {
		status    v1alpha1.ParkingSimulationStatus
		component resources.Component
		reported  bool
		wake      time.Duration
	}{
		"both servers are ready":                      {server(metav1.ConditionTrue, time.Hour), processor, true, 0},
		"a server is not ready":                       {server(metav1.ConditionFalse, time.Hour), processor, false, 5 * time.Minute},
		"it is unknown whether a server is ready":     {server(metav1.ConditionUnknown, time.Hour), processor, false, 5 * time.Minute},
		"a server has been ready for 1 min":           {server(metav1.ConditionTrue, time.Minute), processor, false, 4 * time.Minute},
		"the pod is the server that is not ready":     {server(metav1.ConditionFalse, time.Hour), redis, true, 0},
		"a fault is in effect":                        {faults(v1alpha1.FaultsStatus{Active: "pause/0"}), processor, false, 5 * time.Minute},
		"a fault of the server itself is in effect":   {faults(v1alpha1.FaultsStatus{Active: "pause/0"}), redis, false, 5 * time.Minute},
		"a fault ended 1 min ago":                     {healed(time.Minute), redis, false, 4 * time.Minute},
		"a fault ended before the pod became unready": {healed(2 * time.Hour), processor, true, 0},
	} {
		pod := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: ago(30 * time.Minute)},
		}}}
		pod.Labels = map[string]string{resources.ComponentLabel: string(tt.component)}
		s := newScope(&v1alpha1.ParkingSimulation{Status: tt.status}, now)
		if got := s.persistentFailure(pod); (got != "") != tt.reported || s.wake != tt.wake {
			t.Errorf("%s: the failure is %q with a wake after %s, want it reported: %t, after %s", name, got, s.wake, tt.reported, tt.wake)
		}
	}
}

// Between two crashes, a container in a crash loop runs for some seconds. During this time, the operator must still
// report the crash loop.
func TestPersistentFailure_CrashLoop_IsReportedWhileTheContainerRuns(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 8, 0, 0, 0, time.UTC)
	crashedBefore := func(since time.Duration) corev1.ContainerStatus {
		return corev1.ContainerStatus{
			Name: "redis", RestartCount: 3, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 1, Reason: "Error", FinishedAt: metav1.NewTime(now.Add(-since)),
			}},
		}
	}
	crashed := crashedBefore(time.Minute)
	ready, once := crashed, crashed
	ready.Ready, once.RestartCount = true, 1
	healed := func(since time.Duration) *v1alpha1.FaultsStatus {
		return &v1alpha1.FaultsStatus{Latest: []v1alpha1.FaultStatus{{HealedTime: new(metav1.NewTime(now.Add(-since)))}}}
	}
	const want = "pod p, container redis has been restarted 3 times (its last exit code was 1, Error"
	for name, tt := range map[string]struct {
		container corev1.ContainerStatus
		faults    *v1alpha1.FaultsStatus
		want      string
	}{
		"it crashes again and again":     {crashed, nil, want},
		"it is ready now":                {ready, nil, ""},
		"it has been restarted once":     {once, nil, ""},
		"its last crash was 9 min ago":   {crashedBefore(9 * time.Minute), nil, want},
		"its last crash was 10 min ago":  {crashedBefore(10 * time.Minute), nil, ""},
		"its last crash was weeks ago":   {crashedBefore(500 * time.Hour), nil, ""},
		"a fault is in effect":           {crashed, &v1alpha1.FaultsStatus{Active: "kill"}, ""},
		"a fault was in effect recently": {crashed, healed(time.Minute), ""},
		"a fault was in effect long ago": {crashed, healed(time.Hour), want},
	} {
		sim := &v1alpha1.ParkingSimulation{}
		sim.Status.Faults = tt.faults
		pod := &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{tt.container}}}
		pod.Name = "p"
		s := newScope(sim, now)
		if got := s.persistentFailure(pod); !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") || (s.wake != 0) != (tt.want != "") {
			t.Errorf("%s: the failure is %q with a wake after %s, want %q, and a wake only with a failure", name, got, s.wake, tt.want)
		}
	}
}

func TestWithRemedy_KnownFailure_AppendsTheRemedy(t *testing.T) {
	t.Parallel()
	for failure, want := range map[string]string{
		`pods "a" is forbidden: no PriorityClass with name high was found`:                                        "create the PriorityClass",
		`pods "a" is forbidden: [spec.containers[0].resources.requests: must be less than or equal to cpu limit]`: "set limits, because the default limits of a LimitRange",
		`pod a is not scheduled: 0/1 nodes are available: persistentvolumeclaim "data-a-0" not found`:             "delete the pod, so that its volume claim is created again",
		`pod a is not scheduled: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims`:       "check that the storage class exists",
		`pod a is not scheduled: 0/1 nodes are available: Insufficient cpu`:                                       "add a node with enough room",
	} {
		if got := withRemedy(failure); !strings.Contains(got, want) {
			t.Errorf("the failure is %q, want it to contain %q", got, want)
		}
	}
}

// spec.duration counts from the start of the schedules. If the schedules started before the generators, no events would
// be published in the first part of the duration.
func TestStart_SecretIsMissingOrMustNotBeMounted_SchedulesDoNotStart(t *testing.T) {
	t.Parallel()
	works := found(ready, reasonReady, "works")
	for name, tt := range map[string]struct {
		edit   func(*scope)
		starts bool
	}{
		"all Secrets may be used":      {func(*scope) {}, true},
		"a mounted Secret is missing":  {func(s *scope) { s.missing["metrics-tls"] = true }, false},
		"pods must not mount a Secret": {func(s *scope) { s.metrics.withheld = true }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, time.Now())
			s.findings.objects, s.findings.broker, s.findings.store, s.findings.summaryAPI = works, works, works, works
			s.workloads[resources.ComponentProcessor] = workload{desired: 1, pods: 1, updated: 1, ready: 1, observed: true}
			tt.edit(s)
			if err := new(Reconciler).start(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if starts := s.sim.Status.StartTime != nil; starts != tt.starts {
				t.Errorf("the schedules start: %t, want %t", starts, tt.starts)
			}
		})
	}
}
