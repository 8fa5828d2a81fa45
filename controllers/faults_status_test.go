package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
)

func TestFaultsStatus_ManyFaults_IsBounded(t *testing.T) {
	t.Parallel()
	if got := faultsStatus(nil, fault.History{}); got != nil {
		t.Errorf("without faults the status is %+v", got)
	}
	at := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	var accounts []fault.Account
	for i := range 300 {
		a := fault.Account{
			Fault: "stall", Number: i, Target: plan.TargetProcessor, Action: plan.ActionPause, Hit: []string{"a", "b", "c", "d", "e", "f", "g"},
			InjectedAt: at, HealedAt: at, RecoverySeconds: new(1.234), PeakLagSeconds: 0.5, PeakBacklog: new(int64(3)),
			PeakP99Seconds: new(0.00284), Redeliveries: 4, DuplicatesSuppressed: 5, Lost: new(int64(0)), Outcome: fault.OutcomeRecovered,
		}
		switch {
		case i == 7:
			a.RecoverySeconds, a.Outcome, a.Message = nil, fault.OutcomeNotRecovered, strings.Repeat("x", 5000)
		case i >= 298:
			a.HealedAt, a.RecoverySeconds, a.Outcome = time.Time{}, nil, fault.OutcomeActive
		}
		accounts = append(accounts, a)
	}
	removed := fault.History{Totals: []fault.Total{{Fault: "kill", Result: fault.Result{
		Target: plan.TargetRedis, Action: plan.ActionKill, Injected: 1000, Recovered: 990, Aborted: 10, NotInjected: 5, RecoverySeconds: 1980, SlowestSeconds: 4,
	}}}}
	got := faultsStatus(accounts, removed)
	if r := got.Results; len(r) != 2 || r[1].Recovered != 990 || *r[1].SlowestRecovery != *v1alpha1.NewDuration(4 * time.Second) {
		t.Errorf("the results are %+v", r)
	}
	if got.Injected != 1300 || got.Recovered != 1287 || got.NotRecovered != 1 || got.Aborted != 10 || got.NotInjected != 5 || got.Active != "stall/298, stall/299" {
		t.Errorf("the status counts %+v", got)
	}
	if got.Worst == nil || got.Worst.Number != 7 || len(got.Worst.Message) > maxFaultMessage {
		t.Errorf("the worst is %+v", got.Worst)
	}
	accounts[299].Hit, accounts[299].HitOmitted = nil, 7 // the record omits the names of the pods
	if f := faultStatus(&accounts[299]); f.HitCount != 7 {
		t.Errorf("%d pods were hit, want 7", f.HitCount)
	}
	if len(got.Latest) != maxFaults || got.Latest[maxFaults-1].Number != 299 {
		t.Fatalf("the latest are %+v", got.Latest)
	}
	want := v1alpha1.FaultStatus{
		Name: "stall", Number: 280, Target: v1alpha1.FaultTargetProcessor, Action: v1alpha1.FaultActionPause,
		HitCount: 7, Hit: []string{"a", "b", "c", "d", "e"},
		InjectedTime: wholeSeconds(at), HealedTime: wholeSeconds(at), Recovery: v1alpha1.NewDuration(1230 * time.Millisecond),
		PeakLag: v1alpha1.NewDuration(500 * time.Millisecond), PeakBacklog: new(int64(3)),
		PeakEndToEndP99: v1alpha1.NewDuration(2800 * time.Microsecond), Redeliveries: new(int64(4)), DuplicatesSuppressed: new(int64(5)),
		Lost: new(int64(0)), Outcome: "Recovered",
	}
	if diff := cmp.Diff(want, got.Latest[0]); diff != "" {
		t.Errorf("the first of the latest (-want +got):\n%s", diff)
	}
}

func TestFaultStatus_FaultNotInjected_HasNoMeasurements(t *testing.T) {
	t.Parallel()
	got := faultStatus(&fault.Account{
		Fault: "drain", Target: plan.TargetRabbitMQ, Action: plan.ActionEvict, Outcome: fault.OutcomeNotInjected, Message: "The fault was not injected: a budget forbids it",
	})
	want := v1alpha1.FaultStatus{
		Name: "drain", Target: v1alpha1.FaultTargetRabbitMQ, Action: v1alpha1.FaultActionEvict,
		Outcome: "NotInjected", Message: "The fault was not injected: a budget forbids it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the status (-want +got):\n%s", diff)
	}
}

// There are more faults than status.faults.latest can show. Each recovery must be reported nevertheless.
func TestRecoveries_ManyFaults_EachIsReportedOnce(t *testing.T) {
	t.Parallel()
	const all = 2 * maxFaults
	records, accounts := make([]fault.Record, all), make([]fault.Account, all)
	for i := range all {
		records[i] = fault.Record{Occurrence: fault.Occurrence{Fault: "stall", Number: i}}
		accounts[i] = fault.Account{Fault: "stall", Number: i, Outcome: fault.OutcomeRecovered, Message: "m"}
	}
	accounts[1].Outcome, accounts[2].Outcome, accounts[3].Outcome = fault.OutcomeNotRecovered, fault.OutcomeRecovering, fault.OutcomeAborted
	records[4].Measured = &accounts[4] // an earlier reconcile has saved the effect of this fault
	got := map[string]string{}
	for _, n := range recoveries(records, accounts) {
		got[n.message] += n.kind + " " + n.reason
	}
	if len(got) != all-3 {
		t.Errorf("%d faults are reported, want %d", len(got), all-3)
	}
	for message, want := range map[string]string{
		"Fault stall/0: m": "Normal FaultRecovered", "Fault stall/1: m": "Warning FaultNotRecovered",
		"Fault stall/2: m": "", "Fault stall/3: m": "", "Fault stall/4: m": "",
	} {
		if got[message] != want {
			t.Errorf("%s: the event is %q, want %q", message, got[message], want)
		}
	}
}

// eventSink stores the events that a broadcaster sends to the API server.
type eventSink struct {
	mu    sync.Mutex
	notes []string
}

func (s *eventSink) Create(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	about := e.Regarding.FieldPath
	if e.Related != nil {
		about = e.Related.Name
	}
	s.notes = append(s.notes, e.Reason+" "+about)
	return e, nil
}

func (s *eventSink) Update(_ context.Context, e *eventsv1.Event) (*eventsv1.Event, error) {
	return e, nil
}

func (s *eventSink) Patch(_ context.Context, e *eventsv1.Event, _ []byte) (*eventsv1.Event, error) {
	return e, nil
}

// The broadcaster combines events with equal reasons and references, and keeps only the first message. So events about
// different faults or objects need different references.
func TestEvents_SeveralFaultsAndObjectsAtOnce_AreNotCombined(t *testing.T) {
	t.Parallel()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	sink := &eventSink{}
	broadcaster := events.NewBroadcaster(sink)
	defer broadcaster.Shutdown()
	if err := broadcaster.StartRecordingToSinkWithContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	recorder := broadcaster.NewRecorder(scheme, "test")
	s := &scope{sim: &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "sim", UID: "1"}}}
	var want []string
	var accounts []fault.Account
	for n := range 3 {
		a := fault.Account{Fault: "stall", Number: n, Outcome: fault.OutcomeRecovered, Message: "m"}
		accounts = append(accounts, a)
		faultEvents(recorder)(s.sim, fault.Record{Occurrence: fault.Occurrence{Fault: "stall", Number: n}, State: fault.Active})
		want = append(want, "FaultInjected spec.faults{"+a.ID()+"}", "FaultRecovered spec.faults{"+a.ID()+"}")
	}
	r := &Reconciler{events: recorder}
	r.notify(s, recoveries(make([]fault.Record, 3), accounts))
	for _, name := range []string{"sim-entry", "sim-exit"} {
		r.reportHealed(s, childKey{"Deployment", name})
		want = append(want, "Healed "+name)
	}
	slices.Sort(want)
	polltest.UntilNoError(t, "all events", func() error {
		sink.mu.Lock()
		defer sink.mu.Unlock()
		got := slices.Sorted(slices.Values(sink.notes))
		if !slices.Equal(got, want) {
			return fmt.Errorf("the events are %q, want %q", got, want)
		}
		return nil
	})
}
