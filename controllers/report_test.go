package controllers

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

func TestNodeOf_CompleteNode_ReturnsSizeAndOperatingSystem(t *testing.T) {
	t.Parallel()
	got := nodeOf(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "worker-1"},
		Status: corev1.NodeStatus{
			Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi")},
			NodeInfo: corev1.NodeSystemInfo{Architecture: "arm64", OperatingSystem: "linux", KernelVersion: "6.12"},
		},
	})
	want := report.Node{Name: "worker-1", CPUs: 4, MemoryBytes: 16 << 30, Architecture: "arm64", System: "linux 6.12"}
	if got != want {
		t.Errorf("the node is %+v, want %+v", got, want)
	}
}

func TestReport_FailedPods_AppearInTheTimeline(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, now)
	r := &Reconciler{}
	// The first failure is older than the timeline, so the report must omit it.
	for _, ago := range []time.Duration{2 * time.Minute, 30 * time.Second} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "sim-redis-0", Labels: map[string]string{resources.ComponentLabel: "redis"}}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{LastTerminationState: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled", FinishedAt: metav1.NewTime(now.Add(-ago))},
		}}}
		r.failures.Observe(s.key, pod)
	}
	s.observation = &observer.Observation{Rest: &observer.Rest{}}
	if d := r.report(t.Context(), s, ledger.Verdict{}, nil); len(d.Timeline) != 0 {
		t.Errorf("a report without measurements has the timeline %+v", d.Timeline)
	}
	s.observation.Rest.Timeline = []timeline.Row{{Second: now.Unix() - 60}, {Second: now.Unix() - 10}}
	marks := timeline.MarksOf(r.report(t.Context(), s, ledger.Verdict{}, nil).Timeline)
	if len(marks) != 1 || marks[0].Subject != "redis" || marks[0].Message != "pod sim-redis-0 failed with exit code 137 (OOMKilled)" {
		t.Errorf("the marks are %+v", marks)
	}
}

func TestReport_MissedObjective_AddsAMarkToTheTimeline(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, now)
	s.plan.Objectives.MinAchievedPercent = 90
	rows := []timeline.Row{
		{Second: now.Unix() - 60, Entry: timeline.Events{Due: 100, Published: 100}},
		{Second: now.Unix() - 30, Entry: timeline.Events{Due: 100, Published: 20}},
		{Second: now.Unix() - 10, Entry: timeline.Events{Due: 100, Published: 100}},
	}
	s.observation = &observer.Observation{Rest: &observer.Rest{
		Timeline: rows, Report: ledger.Report{AtRest: true, Lost: 1, MissingEntries: 1},
	}}
	marks := timeline.MarksOf((&Reconciler{}).report(t.Context(), s, s.evaluate(nil), nil).Timeline)
	if len(marks) != 2 || marks[0].Subject != ledger.CheckAchieved || !marks[0].At.Equal(rows[1].End()) ||
		marks[1].Subject != ledger.CheckLost || !marks[1].At.Equal(now) {
		t.Errorf("the marks are %+v", marks)
	}
}

func TestWriteReport_TooLarge_DoesNotBlockTheVerdict(t *testing.T) {
	t.Parallel()
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, time.Now())
	s.observation = &observer.Observation{Rest: &observer.Rest{}}
	recorder := events.NewFakeRecorder(1)
	r := &Reconciler{events: recorder}
	huge := ledger.Verdict{Outcome: ledger.Fail, Reasons: []string{strings.Repeat("x", resources.MaxReport)}}
	name, err := r.writeReport(t.Context(), s, huge, nil)
	if name != "" || err != nil {
		t.Errorf("the name is %q, the error is %v", name, err)
	}
	if got := <-recorder.Events; !strings.Contains(got, "ReportNotWritten") || !strings.Contains(got, "bytes even without its timeline") {
		t.Errorf("the event is %q", got)
	}
}

func TestWriteReport_LongRun_FitsIntoTheConfigMap(t *testing.T) {
	t.Parallel()
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim", UID: "1"}}
	s := newScope(sim, time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC))
	var latencies histogram.Histogram
	for d := time.Microsecond; d < time.Minute; d *= 2 {
		latencies.Observe(d)
	}
	rows := make([]timeline.Row, 3600)
	for i := range rows {
		e := timeline.Events{Published: 1, Processing: latencies.Snapshot(), EndToEnd: latencies.Snapshot()}
		rows[i] = timeline.Row{Second: s.now.Unix() - int64(len(rows)-i), Entry: e, Exit: e}
	}
	s.observation = &observer.Observation{Rest: &observer.Rest{Timeline: rows}}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	cluster := fake.NewClientBuilder().WithScheme(scheme).Build()
	r := &Reconciler{applier: apply.New(cluster, cluster, scheme)}
	verdict := ledger.Verdict{Outcome: ledger.Fail, Reasons: []string{"1 event was lost"}}
	if name, err := r.writeReport(t.Context(), s, verdict, nil); err != nil || name != resources.ReportName(sim) {
		t.Fatalf("the name is %q, the error is %v", name, err)
	}
	written := &corev1.ConfigMap{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: resources.ReportName(sim)}, written); err != nil {
		t.Fatal(err)
	}
	text := written.Data[resources.ReportKey]
	document, err := report.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if total := timeline.Sum(document.Timeline...); len(text) > resources.MaxReport || total.Entry.Published != int64(len(rows)) {
		t.Errorf("the report has %d bytes, of at most %d, and %d of %d entries", len(text), resources.MaxReport, total.Entry.Published, len(rows))
	}
}

func TestReport_FaultThatTookEffect_HasMarks(t *testing.T) {
	t.Parallel()
	at := time.Now().Truncate(time.Second)
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, at)
	rows := []timeline.Row{{Second: at.Unix() - 60}, {Second: at.Unix() - 1}}
	s.observation = &observer.Observation{Rest: &observer.Rest{Timeline: rows}}
	faults := []fault.Account{{
		Fault: "freeze", Action: plan.ActionPause, Hit: []string{"processor-0"}, InjectedAt: at.Add(-30 * time.Second), HealedAt: at.Add(-20 * time.Second),
	}}
	d := (&Reconciler{}).report(t.Context(), s, ledger.Verdict{Outcome: ledger.Pass}, faults)
	if diff := cmp.Diff(fault.Marks(faults), timeline.MarksOf(d.Timeline)); diff != "" {
		t.Errorf("marks differ (-want +got):\n%s", diff)
	}
}

func TestReconcilerNodes_PodDeleted_NodeIsKept(t *testing.T) {
	t.Parallel()
	nodes := &corev1.NodeList{}
	for _, name := range []string{"a", "b"} {
		nodes.Items = append(nodes.Items, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	r := &Reconciler{direct: fake.NewClientBuilder().WithScheme(scheme).WithLists(nodes).Build()}
	s := newScope(&v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim"}}, time.Now())
	// Each call simulates a reconcile that sees only one pod. The pod with the node name "" is not scheduled yet. The
	// node "unreadable" does not exist.
	for _, node := range []string{"b", "", "unreadable", "a", "b"} {
		r.nodeNames.observe(s.key, &corev1.Pod{Spec: corev1.PodSpec{NodeName: node}})
	}
	got := r.nodes(t.Context(), s)
	if len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" {
		t.Errorf("the nodes are %+v", got)
	}
	for i := range 2 * maxNodes {
		r.nodeNames.observe(s.key, &corev1.Pod{Spec: corev1.PodSpec{NodeName: fmt.Sprint("node-", i)}})
	}
	if n := len(r.nodeNames.namesOf(s.key)); n != maxNodes {
		t.Errorf("the names of %d nodes are kept, want %d", n, maxNodes)
	}
	r.nodeNames.evict(s.key)
	if got := r.nodeNames.namesOf(s.key); len(got) != 0 {
		t.Errorf("after the end of the simulation, the nodes are %q", got)
	}
}
