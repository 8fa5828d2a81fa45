package kubectl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	clientfake "sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/podfailure"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/view"
)

// liveData is an HTTP handler that takes the place of a pod. It serves a state and a timeline.
type liveData struct {
	state view.State
	rows  []timeline.Row
	from  []time.Time // the start times of the requested parts of the timeline
}

func (d *liveData) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/state" {
		_ = json.NewEncoder(w).Encode(d.state)
		return
	}
	from, _ := time.Parse(time.RFC3339, r.URL.Query().Get("from"))
	d.from = append(d.from, from)
	_ = json.NewEncoder(w).Encode(map[string]any{"rows": within(d.rows, from, time.Now().Add(time.Hour))})
}

// newSource returns the source of a simulation. If data is nil, no pod exists. If d is nil, no report exists.
func newSource(t *testing.T, sim *v1alpha1.ParkingSimulation, data *liveData, d *report.Document) *source {
	t.Helper()
	pods := &fakePods{}
	if data != nil {
		pods = serve(t, map[string]http.Handler{"processor": data})
	}
	s := &source{
		get:   func(context.Context) (*v1alpha1.ParkingSimulation, error) { return sim, nil },
		read:  func(context.Context, *v1alpha1.ParkingSimulation) (*report.Document, error) { return d, nil },
		pages: pods.pages(), sim: sim,
	}
	t.Cleanup(s.pages.Close)
	return s
}

// completed returns a simulation whose verdict is FAIL, and its report.
func completed() (*v1alpha1.ParkingSimulation, *report.Document) {
	sim := &v1alpha1.ParkingSimulation{}
	sim.UID = "uid"
	sim.Status.CompletionTime = new(metav1.Now())
	sim.Status.Latency = &v1alpha1.LatencyStatus{Unmeasured: 7}
	sim.Status.Verdict, sim.Status.Reasons, sim.Status.Report = v1alpha1.VerdictFail, []string{"2 events were lost"}, "rush-hour-report"
	d := report.New(report.Run{
		Verdict: ledger.Verdict{Outcome: ledger.Fail}, Simulation: "parking.rush-hour", Ledger: &ledger.Report{AtRest: true, Lost: 2},
		Rates: report.Rates{Entry: report.Rate{Target: 20, Achieved: 19}},
	}, report.Environment{}, []timeline.Row{{Second: 100}, {Second: 200, Width: 10}})
	return sim, &d
}

func TestSourceState_CompleteSimulation_ShowsTheVerdict(t *testing.T) {
	t.Parallel()
	sim, document := completed()
	data := &liveData{state: view.State{Run: "uid", Phase: view.Draining, Ledger: &ledger.Report{}, Queues: view.Queues{Ready: new(int64(3))}}}
	got, err := newSource(t, sim, data, document).State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Phase != view.Finished || !got.Verdict.Final || got.Verdict.Outcome != ledger.Fail || !slices.Equal(got.Verdict.Reasons, sim.Status.Reasons) {
		t.Errorf("the state is %+v", got)
	}
	if got.Ledger.Lost != 2 || *got.Queues.Ready != 3 || got.Unmeasured == nil || *got.Unmeasured != 7 {
		t.Errorf("the ledger is %+v, the queues are %+v, the number of unmeasured events is %v", got.Ledger, got.Queues, got.Unmeasured)
	}
}

func TestSourceState_RunningSimulationIsCertainToFail_ShowsFAILAndTheReasons(t *testing.T) {
	t.Parallel()
	sim := &v1alpha1.ParkingSimulation{}
	sim.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionObjectivesMet, Status: metav1.ConditionFalse, Message: "one; two"}}
	got, err := newSource(t, sim, &liveData{state: view.State{Phase: view.Running}}, nil).State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v := got.Verdict; v.Outcome != ledger.Fail || v.Final || !slices.Equal(v.Reasons, []string{"one", "two"}) || got.Phase != view.Running {
		t.Errorf("the state is %+v", got)
	}
}

func TestSource_NoPods_UsesTheReport(t *testing.T) {
	t.Parallel()
	sim, document := completed()
	s := newSource(t, sim, nil, document)
	got, err := s.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Run != "uid" || got.Phase != view.Finished || got.Entry.AchievedRate != 19 || got.Ledger.Lost != 2 {
		t.Errorf("the state is %+v", got)
	}
	rows, err := s.Timeline(t.Context(), time.Unix(150, 0), time.Unix(300, 0))
	if err != nil || len(rows) != 1 || rows[0].Second != 200 {
		t.Errorf("the timeline is %v, %v", rows, err)
	}
	sim.Status.Report, s.document = "", nil
	if _, err := s.State(t.Context()); err == nil {
		t.Error("State returns no error without pods and without a report")
	}
}

func TestSourceTimeline_RepeatedRequests_OnlyTheNewestRowsAreReadAgain(t *testing.T) {
	t.Parallel()
	data := &liveData{}
	s := newSource(t, &v1alpha1.ParkingSimulation{}, data, nil)
	now := time.Now()
	for ago := 60; ago > 0; ago-- {
		data.rows = append(data.rows, timeline.Row{Second: now.Unix() - int64(ago)})
	}
	for i := range 3 {
		rows, err := s.Timeline(t.Context(), now.Add(-2*time.Minute), now.Add(time.Minute))
		if err != nil || len(rows) != 60 {
			t.Fatalf("update %d has %d rows: %v", i, len(rows), err)
		}
	}
	if first, second := now.Sub(data.from[0]), now.Sub(data.from[1]); first < time.Minute || second > 2*newestTime {
		t.Errorf("the updates requested rows of the last %s and %s", first, second)
	}
	if _, err := s.Timeline(t.Context(), time.Unix(0, 0), now.Add(time.Minute)); err != nil || data.from[3].Unix() != 0 {
		t.Errorf("all rows were requested from %s: %v", data.from[3], err)
	}
}

func TestSourceTimeline_ClockOfThisMachineIsWrong_UsesTheClockOfThePod(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		now := time.Now().Add(ahead)
		data := &liveData{state: view.State{At: now}, rows: []timeline.Row{{Second: now.Unix() - 3}}}
		s := newSource(t, &v1alpha1.ParkingSimulation{}, data, nil)
		if _, err := s.State(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if rows, err := s.Timeline(t.Context(), now.Add(-2*time.Minute), now.Add(time.Minute)); err != nil || len(rows) != 1 {
				t.Errorf("the clock of the pod is %s ahead: the rows are %v, %v", ahead, rows, err)
			}
		}
		if ago := now.Sub(data.from[1]); ago < newestTime-time.Minute/2 || ago > 2*newestTime {
			t.Errorf("the clock of the pod is %s ahead: the second update requests rows since %s ago", ahead, ago)
		}
	}
}

func TestSource_SimulationCreatedAgain_ShowsNoDataOfTheDeletedSimulation(t *testing.T) {
	t.Parallel()
	now := time.Now()
	earlier, document := completed()
	document.Faults = []fault.Account{{Fault: "freeze"}}
	data := &liveData{state: view.State{Run: "uid", At: now, Ledger: &ledger.Report{Lost: 2}}, rows: []timeline.Row{{Second: now.Unix() - 40}}}
	s := newSource(t, earlier, data, document)
	s.faults = &liveFaults{records: faultRecords{Records: make([]fault.Record, 1)}, timeline: data.rows}
	update := func() (view.State, []timeline.Row) {
		t.Helper()
		state, err := s.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rows, err := s.Timeline(t.Context(), now.Add(-2*time.Minute), now.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return state, rows
	}
	if state, rows := update(); state.Phase != view.Finished || len(state.Faults) != 1 || len(rows) != 1 {
		t.Fatalf("the earlier simulation has the state %+v and the rows %+v", state, rows)
	}
	later := &v1alpha1.ParkingSimulation{}
	later.UID = "later"
	s.get = func(context.Context) (*v1alpha1.ParkingSimulation, error) { return later, nil }
	data.state, data.rows = view.State{Run: "later", Phase: view.Running, At: now, Ledger: &ledger.Report{}}, []timeline.Row{{Second: now.Unix() - 3}}
	state, rows := update()
	if state.Phase != view.Running || state.Verdict.Final || state.Ledger.Lost != 0 || len(state.Faults) != 0 {
		t.Errorf("the state is %+v", state)
	}
	if len(rows) != 1 || rows[0].Second != now.Unix()-3 || len(s.faults.records.Records) != 0 || len(s.faults.timeline) != 0 {
		t.Errorf("the rows are %+v, the faults are %+v", rows, s.faults.records)
	}
}

func TestSourceState_PodOfAnEarlierSimulation_IsNotUsed(t *testing.T) {
	t.Parallel()
	sim := started()
	sim.UID = "later"
	_, err := newSource(t, sim, &liveData{state: view.State{Run: "uid"}}, nil).State(t.Context())
	if err == nil || err.Error() != "pod processor belongs to an earlier simulation of the same name" {
		t.Errorf("the error is %v", err)
	}
}

func TestReportOf_NoReport_ErrorSaysWhy(t *testing.T) {
	t.Parallel()
	c := &cluster{}
	sim := &v1alpha1.ParkingSimulation{}
	for want, change := range map[string]func(){
		"runs until it is deleted": func() {},
		"has no report yet":        func() { sim.Spec.Duration = v1alpha1.NewDuration(time.Minute) },
		"an event with the reason": func() { sim.Status.CompletionTime = new(metav1.Now()) },
	} {
		sim = &v1alpha1.ParkingSimulation{}
		change()
		if _, err := c.reportOf(t.Context(), sim); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, not %q", err, want)
		}
	}
}

func TestSourceState_RunningSimulation_ContainsFaults(t *testing.T) {
	t.Parallel()
	start := time.Now().Add(-2 * time.Minute).Truncate(time.Second)
	injected, healed := start.Add(60*time.Second), start.Add(65*time.Second)
	records := []fault.Record{{
		Occurrence: fault.Occurrence{Fault: "freeze", Target: plan.TargetProcessor, Action: plan.ActionPause, At: time.Minute, For: 5 * time.Second},
		Hit:        []string{"processor-0"}, InjectedAt: injected, State: fault.Active,
	}}
	configMap := func() *corev1.ConfigMap {
		text, err := json.Marshal(map[string]any{"records": records})
		if err != nil {
			t.Fatal(err)
		}
		object := &corev1.ConfigMap{Data: map[string]string{resources.FaultsKey: string(text)}}
		object.Namespace, object.Name = "parking", "rush-hour-faults"
		return object
	}
	c := cluster{}
	c.WithWatch = clientfake.NewClientBuilder().WithObjects(configMap()).Build()
	sim := started()
	sim.Status.StartTime = new(metav1.NewTime(start))
	sim.Status.Faults = &v1alpha1.FaultsStatus{}
	data := &liveData{state: view.State{Phase: view.Running}}
	var fast, slow histogram.Histogram
	for range 100 {
		fast.Observe(10 * time.Millisecond)
		slow.Observe(3 * time.Second)
	}
	for i := range int64(120) {
		latency := fast.Snapshot()
		if i >= 60 && i < 70 {
			latency = slow.Snapshot()
		}
		row := timeline.Row{Second: start.Unix() + i, Entry: timeline.Events{Published: 100, Effects: 100, EndToEnd: latency}}
		row.Ready, row.Retrying = new(int64(0)), new(int64(0))
		data.rows = append(data.rows, row)
	}
	s := newSource(t, sim, data, nil)
	s.faults = c.liveFaults(s, func(err error) { t.Error(err) })
	account := func() fault.Account {
		t.Helper()
		got, err := s.State(t.Context())
		if err != nil || len(got.Faults) != 1 {
			t.Fatalf("the faults are %+v, %v", got.Faults, err)
		}
		return got.Faults[0]
	}
	if a := account(); a.Outcome != fault.OutcomeActive || a.Target != plan.TargetProcessor || !a.InjectedAt.Equal(injected) || a.Hit[0] != "processor-0" {
		t.Errorf("a fault in effect is %+v", a)
	}
	if len(data.from) != 0 {
		t.Errorf("the timeline was read %d times while no fault had ended", len(data.from))
	}
	records[0].HealedAt, records[0].State = healed, fault.Healed
	if err := c.Update(t.Context(), configMap()); err != nil {
		t.Fatal(err)
	}
	s.faults.readAt = time.Time{} // forces a new read of the records of faults
	for range 3 {
		if a := account(); a.Outcome != fault.OutcomeRecovered || a.RecoverySeconds == nil || *a.RecoverySeconds < 4 || *a.RecoverySeconds > 7 {
			t.Errorf("a fault that ended is %+v", a)
		}
	}
	if len(data.from) != 1 {
		t.Errorf("the timeline was read %d times for one recovery", len(data.from))
	}
	rows, err := s.Timeline(t.Context(), start, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var marks []string
	for _, m := range timeline.MarksOf(rows) {
		marks = append(marks, fmt.Sprint(m.At.Sub(start), " ", m.Kind, " ", m.Subject, " ", m.Message))
	}
	if want := []string{"1m0s injected freeze/0 Pause of processor-0", "1m5s healed freeze/0 after 5.00 s"}; !slices.Equal(marks, want) {
		t.Errorf("the marks are %q, want %q", marks, want)
	}
}

func TestSourceState_ReadingFaultsIsForbidden_ReportsTheErrorOnce(t *testing.T) {
	t.Parallel()
	sim := started()
	sim.Status.Faults = &v1alpha1.FaultsStatus{}
	c := cluster{}
	forbidden := apierrors.NewForbidden(corev1.Resource("configmaps"), "rush-hour-faults", errors.New(`User "ann" cannot get resource "configmaps"`))
	c.WithWatch = clientfake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return forbidden
		},
	}).Build()
	s := newSource(t, sim, &liveData{state: view.State{Phase: view.Running}}, nil)
	var said []string
	s.faults = c.liveFaults(s, func(err error) { said = append(said, err.Error()) })
	for range 2 {
		if got, err := s.State(t.Context()); err != nil || len(got.Faults) != 0 {
			t.Fatalf("the state is %+v, %v", got, err)
		}
		s.faults.readAt = time.Time{}
	}
	if len(said) != 1 || !strings.Contains(said[0], `resources: ["configmaps"], verbs: ["get"]`) {
		t.Errorf("the messages are %q", said)
	}
}

// failedPod returns a processor pod whose container was killed at the given time.
func failedPod(at time.Time) *corev1.Pod {
	pod := newPod("processor-0", 8085, corev1.ConditionFalse)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: 137, Reason: "OOMKilled", FinishedAt: metav1.NewTime(at),
		}},
	}}
	return &pod
}

func TestSourceTimeline_PodsFailed_RowsContainMarks(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	sim := started()
	sim.CreationTimestamp = metav1.NewTime(now.Add(-2 * time.Minute))
	rows := []timeline.Row{{Second: now.Unix() - 90}, {Second: now.Unix() - 30}}
	s := newSource(t, sim, &liveData{rows: rows}, nil)
	key := client.ObjectKeyFromObject(sim)
	for _, ago := range []int{180, 90, 60} { // the oldest failure belongs to a deleted simulation of the same name
		s.failures.Observe(key, failedPod(now.Add(-time.Duration(ago)*time.Second)))
	}
	want := []timeline.Row{
		{Second: now.Unix() - 90, Marks: s.failures.Marks(key, now.Add(-90*time.Second), now.Add(-89*time.Second))},
		{Second: now.Unix() - 60, Marks: s.failures.Marks(key, now.Add(-60*time.Second), now)},
		{Second: now.Unix() - 30},
	}
	for i, from := range []time.Time{time.Unix(0, 0), now.Add(-2 * time.Minute), now.Add(-2 * time.Minute)} {
		got, err := s.Timeline(t.Context(), from, now.Add(time.Minute))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("request %d returns the rows %+v, %v, want %+v", i, got, err, want)
		}
	}
	if m := want[1].Marks[0]; m.Kind != timeline.MarkDown || m.Subject != "processor" || m.Message != "pod processor-0 failed with exit code 137 (OOMKilled)" {
		t.Errorf("the mark is %+v", m)
	}
	sim.Status.CompletionTime = new(metav1.NewTime(now.Add(-70 * time.Second)))
	if got, err := s.Timeline(t.Context(), time.Unix(0, 0), now); err != nil || len(timeline.MarksOf(got)) != 1 {
		t.Errorf("after the end of the run, the rows are %+v, %v", got, err)
	}
}

func TestWatchPods_ObservesChangesAndDeletions(t *testing.T) {
	t.Parallel()
	pod := newPod("processor-0", 8085, corev1.ConditionTrue)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	watcher := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10})
	c := cluster{}
	c.WithWatch = clientfake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Watch: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
			return watcher, nil
		},
	}).Build()
	key := client.ObjectKeyFromObject(started())
	var failures podfailure.Tracker
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watchPods(ctx, key, &failures, time.Now, func(err error) { t.Error(err) })
	}()
	at := time.Now().Add(-time.Minute)
	watcher.Add(&pod)
	watcher.Modify(failedPod(at))
	watcher.Modify(failedPod(at))
	watcher.Delete(&pod)
	watcher.Error(&metav1.Status{})
	watcher.Stop()
	polltest.Until(t, "both failures are known", func() bool { return len(failures.Marks(key, time.Time{}, time.Now())) == 2 })
	cancel()
	<-done
}

func TestWatchPods_Forbidden_ReportsTheErrorOnce(t *testing.T) {
	t.Parallel()
	c := cluster{}
	c.WithWatch = clientfake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Watch: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
			return nil, apierrors.NewForbidden(corev1.Resource("pods"), "", errors.New(`User "ann" cannot watch resource "pods"`))
		},
	}).Build()
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan error, 2)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watchPods(ctx, client.ObjectKeyFromObject(started()), &podfailure.Tracker{}, time.Now, func(err error) { said <- err })
	}()
	if err := <-said; !strings.Contains(err.Error(), `resources: ["pods"], verbs: ["watch"]`) {
		t.Errorf("the error is %v", err)
	}
	cancel()
	<-done
}

// No watch reports the deletion: the first watch ends before the deletion, and the next watch begins after it.
func TestWatchPods_PodDeletedBetweenWatches_CountsAsPodFailure(t *testing.T) {
	t.Parallel()
	pod := newPod("processor-0", 8085, corev1.ConditionTrue)
	pod.UID = "uid"
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	var watches atomic.Int32
	c := cluster{}
	c.WithWatch = clientfake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Watch: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
			watcher := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 1})
			if watches.Add(1) == 1 {
				watcher.Add(&pod)
			}
			watcher.Stop()
			return watcher, nil
		},
	}).Build()
	key := client.ObjectKeyFromObject(started())
	var failures podfailure.Tracker
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watchPods(ctx, key, &failures, time.Now, func(err error) { t.Error(err) })
	}()
	polltest.Until(t, "the deletion is known", func() bool { return len(failures.Marks(key, time.Time{}, time.Now())) == 1 })
	cancel()
	<-done
}

func TestWatchSimulations_SimulationDeletedBetweenWatches_ReportsTheDeletion(t *testing.T) {
	t.Parallel()
	sim := started()
	sim.UID = "uid"
	exists := atomic.Bool{}
	exists.Store(true)
	var watches atomic.Int32
	c := cluster{}
	c.WithWatch = clientfake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
		Watch: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
			watcher := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 1})
			watcher.Add(sim)
			watcher.Stop() // the API server ends the watch
			if watches.Add(1) == 2 {
				exists.Store(false)
			}
			return watcher, nil
		},
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
			if l, ok := list.(*v1alpha1.ParkingSimulationList); ok && exists.Load() {
				l.Items = []v1alpha1.ParkingSimulation{*sim}
			}
			return nil
		},
	}).Build()
	var shown []bool
	err := c.watchSimulations(t.Context(), "parking", "rush-hour", func(got *v1alpha1.ParkingSimulation, deleted bool) error {
		shown = append(shown, deleted)
		if got.Name != sim.Name {
			t.Errorf("the simulation is %s", got.Name)
		}
		if deleted {
			return errDeleted
		}
		return nil
	})
	if !errors.Is(err, errDeleted) || !slices.Equal(shown, []bool{false, true}) {
		t.Errorf("the calls of show have deleted = %v, and the watch ends with %v", shown, err)
	}
}
