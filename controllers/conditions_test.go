package controllers

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// healthy returns the findings for a simulation that runs without problems.
func healthy() findings {
	ok := finding{state: ready, reason: reasonReady}
	return findings{
		spec: finding{}, objects: finding{state: ready}, broker: ok, store: ok, summaryAPI: ok, workloads: ok,
		monitoring: found(progressing, reasonKindNotServed, ""), ledger: found(ready, reasonRead, ""),
		completion: found(progressing, reasonNoDuration, ""), objectives: found(progressing, reasonNotComplete, ""),
		running: "Running: 2 processors",
	}
}

func TestConditionsOf_EachFinding_SetsTheConditionsThatItAffects(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*findings)
		want   map[string]string // status and reason of each condition, by condition type
	}{
		"a running simulation is ready without monitoring": {
			change: func(*findings) {},
			want:   map[string]string{"Ready": "True/Running", "MonitoringReady": "False/KindNotServed", "ObjectivesMet": "Unknown/NotComplete"},
		},
		"a missing Secret stalls": {
			change: func(f *findings) { f.broker = found(stalled, reasonSecretMissing, "") },
			want:   map[string]string{"Ready": "False/SecretNotFound", "Stalled": "True/SecretNotFound", "BrokerReady": "False/SecretNotFound"},
		},
		"stalled takes precedence over an earlier progressing part": {
			change: func(f *findings) {
				f.broker, f.store = found(progressing, reasonProgressing, ""), found(stalled, reasonSecretInvalid, "")
			},
			want: map[string]string{"Ready": "False/SecretInvalid", "Stalled": "True/SecretInvalid"},
		},
		"starting pods are reconciling": {
			change: func(f *findings) { f.workloads = found(progressing, reasonProgressing, "") },
			want:   map[string]string{"Ready": "False/Progressing", "Reconciling": "True/Progressing", "WorkloadsReady": "False/Progressing"},
		},
		"an unreadable ledger does not affect readiness": {
			change: func(f *findings) { f.ledger = found(stalled, reasonUnreadable, "") },
			want:   map[string]string{"Ready": "True/Running", "LedgerReadable": "False/Unreadable"},
		},
		"a ledger that has not been read is unknown": {
			change: func(f *findings) { f.ledger = found(progressing, reasonNotRead, "") },
			want:   map[string]string{"LedgerReadable": "Unknown/NotRead"},
		},
		"a suspended simulation is ready": {
			change: func(f *findings) { f.suspended = true },
			want:   map[string]string{"Ready": "True/Suspended"},
		},
		"a complete simulation is ready, even with a verdict of FAIL": {
			change: func(f *findings) {
				f.complete = true
				f.completion, f.objectives = found(ready, reasonComplete, ""), found(stalled, reasonObjectivesUnmet, "")
			},
			want: map[string]string{"Ready": "True/Complete", "Complete": "True/Complete", "ObjectivesMet": "False/NotMet"},
		},
		"a complete simulation is ready, whatever becomes of its servers": {
			change: func(f *findings) {
				f.complete = true
				f.broker, f.workloads = found(stalled, reasonSecretMissing, ""), found(progressing, reasonPodsFailing, "")
			},
			want: map[string]string{"Ready": "True/Complete", "BrokerReady": "False/SecretNotFound"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := healthy()
			test.change(&f)
			got := map[string]string{}
			for _, c := range conditionsOf(f) {
				got[c.Type] = string(c.Status) + "/" + c.Reason
			}
			for kind, want := range test.want {
				if got[kind] != want {
					t.Errorf("%s is %q, want %q", kind, got[kind], want)
				}
			}
			for _, kind := range []string{"Reconciling", "Stalled"} {
				if _, wanted := test.want[kind]; !wanted && got[kind] != "" {
					t.Errorf("%s is %q, want no such condition", kind, got[kind])
				}
			}
		})
	}
}

func TestConditionsOf_NotReady_NamesTheConditionThatExplainsWhy(t *testing.T) {
	t.Parallel()
	const cause = "RabbitMQ cannot be used: connection refused"
	tests := map[string]struct {
		change func(*findings)
		want   map[string]string // expected messages by condition type
	}{
		"a part with a condition": {
			func(f *findings) { f.broker = found(progressing, reasonUnreachable, cause) },
			map[string]string{"Ready": "Not ready: see condition BrokerReady", "Reconciling": cause, "BrokerReady": cause},
		},
		"the spec, which has no condition": {
			func(f *findings) { f.spec = found(stalled, reasonInvalidSpec, cause) },
			map[string]string{"Ready": "Not ready: see condition Stalled", "Stalled": cause},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := healthy()
			tt.change(&f)
			now := conditionsOf(f)
			for kind, want := range tt.want {
				if c := meta.FindStatusCondition(now, kind); c == nil || c.Message != want {
					t.Errorf("%s is %+v, want the message %q", kind, c, want)
				}
			}
		})
	}
}

func TestConditionsOf_ReadySimulation_MessageListsWarnings(t *testing.T) {
	t.Parallel()
	f := healthy()
	f.notes = []string{"90 % of 500 exits a second leave", "processor.replicas is 0"}
	isReady := meta.FindStatusCondition(conditionsOf(f), v1alpha1.ConditionReady)
	const want = "Running: 2 processors; note: 90 % of 500 exits a second leave; processor.replicas is 0"
	if isReady.Status != metav1.ConditionTrue || isReady.Message != want {
		t.Errorf("Ready is %s: %s\nwant True: %s", isReady.Status, isReady.Message, want)
	}
}

func TestSetConditions_PartNotExamined_KeepsOldCondition(t *testing.T) {
	t.Parallel()
	have := []metav1.Condition{}
	setConditions(&have, conditionsOf(healthy()), 1)
	setConditions(&have, conditionsOf(findings{spec: found(stalled, reasonInvalidSpec, "no")}), 2)
	got := map[string]string{}
	for _, c := range have {
		if c.ObservedGeneration == 2 {
			got[c.Type] = c.Reason
		}
	}
	if diff := cmp.Diff(map[string]string{"Ready": reasonInvalidSpec, "Stalled": reasonInvalidSpec}, got); diff != "" {
		t.Errorf("conditions of the new generation (-want +got):\n%s", diff)
	}
	if len(have) != 10 {
		t.Errorf("there are %d conditions, want the earlier ones as well", len(have))
	}
}

func TestTransitions_StatusChange_IsReportedAsEvents(t *testing.T) {
	t.Parallel()
	status := func(ready, objectives string, edit func(*v1alpha1.ParkingSimulationStatus)) *v1alpha1.ParkingSimulationStatus {
		s := &v1alpha1.ParkingSimulationStatus{}
		for _, c := range []struct{ kind, text string }{{v1alpha1.ConditionReady, ready}, {v1alpha1.ConditionObjectivesMet, objectives}} {
			if value, reason, ok := strings.Cut(c.text, "/"); ok {
				s.Conditions = append(s.Conditions, metav1.Condition{Type: c.kind, Status: metav1.ConditionStatus(value), Reason: reason, Message: "as " + reason})
			}
		}
		if edit != nil {
			edit(s)
		}
		return s
	}
	at := new(metav1.Now())
	started := func(s *v1alpha1.ParkingSimulationStatus) { s.StartTime = at }
	failed := func(s *v1alpha1.ParkingSimulationStatus) {
		s.StartTime, s.CompletionTime, s.Verdict, s.Reasons = at, at, v1alpha1.VerdictFail, []string{"1 event was lost"}
	}
	const pending, unmet = "Unknown/NotComplete", "False/NotMet"
	stuck := func(s *v1alpha1.ParkingSimulationStatus) {
		started(s)
		meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: reasonPodsFailing, Message: "pod a is not scheduled"})
	}
	over := func(ignored string) func(s *v1alpha1.ParkingSimulationStatus) {
		return func(s *v1alpha1.ParkingSimulationStatus) {
			failed(s)
			meta.SetStatusCondition(&s.Conditions, metav1.Condition{
				Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: reasonComplete, Message: "The duration is over; " + ignored,
			})
		}
	}
	tests := map[string]struct {
		before, now *v1alpha1.ParkingSimulationStatus
		want        []string
	}{
		"a simulation starts up":      {status("", "", nil), status("False/Progressing", pending, nil), nil},
		"nothing has changed":         {status("True/Running", unmet, started), status("True/Running", unmet, started), nil},
		"a Secret is missing":         {status("", "", nil), status("False/SecretNotFound", pending, nil), []string{"Warning SecretNotFound: as SecretNotFound"}},
		"the Secret is created":       {status("False/SecretNotFound", pending, nil), status("False/Progressing", pending, nil), []string{"Normal Progressing: as Progressing"}},
		"the generators start":        {status("False/Progressing", pending, nil), status("True/Running", pending, started), []string{"Normal Started: Servers and processors are ready: the generators start", "Normal Running: as Running"}},
		"an edit waits for a fault":   {status("True/Running", pending, started), status("False/FaultInEffect", pending, started), []string{"Normal FaultInEffect: as FaultInEffect"}},
		"a pod fails":                 {status("True/Running", pending, started), status("False/PodsFailing", pending, stuck), []string{"Warning PodsFailing: pod a is not scheduled"}},
		"the verdict will be FAIL":    {status("True/Running", pending, started), status("True/Running", unmet, started), []string{"Warning ObjectivesNotMet: The verdict will be FAIL: as NotMet"}},
		"the simulation is complete":  {status("True/Running", pending, started), status("True/Complete", unmet, failed), []string{"Warning Complete: The verdict is FAIL; 1 event was lost"}},
		"it is still complete":        {status("True/Complete", unmet, failed), status("True/Complete", unmet, failed), nil},
		"an edit comes after the end": {status("True/Complete", unmet, over("")), status("True/Complete", unmet, over(editIgnored)), []string{"Warning EditIgnored: The duration is over; " + editIgnored}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, n := range transitions(tt.before, tt.now) {
				got = append(got, n.kind+" "+n.reason+": "+n.message)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetConditions_ConditionIsAdded_SortsConditionsByImportance(t *testing.T) {
	t.Parallel()
	have := []metav1.Condition{}
	setConditions(&have, conditionsOf(healthy()), 1)
	f := healthy()
	f.broker = found(stalled, reasonSecretMissing, "")
	setConditions(&have, conditionsOf(f), 2)
	var got []string
	for _, c := range have {
		got = append(got, c.Type)
	}
	want := slices.DeleteFunc(conditionTypes(), func(kind string) bool { return kind == v1alpha1.ConditionReconciling })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
