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

// healthy are the findings of a simulation that runs.
func healthy() findings {
	ok := finding{state: good, reason: reasonReady}
	return findings{
		spec: finding{}, objects: finding{state: good}, broker: ok, store: ok, summaryAPI: ok, workloads: ok,
		monitoring: found(progressing, reasonKindNotServed, ""), ledger: found(good, reasonRead, ""),
		completion: found(progressing, reasonNoDuration, ""), objectives: found(progressing, reasonNotComplete, ""),
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*findings)
		want   map[string]string // status/reason by type
	}{
		"a simulation that runs is ready, whatever is not monitored": {
			change: func(*findings) {},
			want:   map[string]string{"Ready": "True/Running", "MonitoringReady": "False/KindNotServed", "ObjectivesMet": "Unknown/NotComplete"},
		},
		"one whose Secret is missing is stalled": {
			change: func(f *findings) { f.broker = found(stalled, reasonSecretMissing, "") },
			want:   map[string]string{"Ready": "False/SecretNotFound", "Stalled": "True/SecretNotFound", "BrokerReady": "False/SecretNotFound"},
		},
		"what is stalled outweighs what progresses before it": {
			change: func(f *findings) {
				f.broker, f.store = found(progressing, reasonProgressing, ""), found(stalled, reasonSecretInvalid, "")
			},
			want: map[string]string{"Ready": "False/SecretInvalid", "Stalled": "True/SecretInvalid"},
		},
		"pods that come up are reconciling": {
			change: func(f *findings) { f.workloads = found(progressing, reasonProgressing, "") },
			want:   map[string]string{"Ready": "False/Progressing", "Reconciling": "True/Progressing", "WorkloadsReady": "False/Progressing"},
		},
		"an unreadable ledger is told, but takes nothing from readiness": {
			change: func(f *findings) { f.ledger = found(stalled, reasonUnreadable, "") },
			want:   map[string]string{"Ready": "True/Running", "LedgerReadable": "False/Unreadable"},
		},
		"a ledger that was not read yet is unknown": {
			change: func(f *findings) { f.ledger = found(progressing, reasonNotRead, "") },
			want:   map[string]string{"LedgerReadable": "Unknown/NotRead"},
		},
		"a suspended simulation is ready": {
			change: func(f *findings) { f.suspended = true },
			want:   map[string]string{"Ready": "True/Suspended"},
		},
		"a complete one is ready, even with a verdict of FAIL": {
			change: func(f *findings) {
				f.complete = true
				f.completion, f.objectives = found(good, reasonComplete, ""), found(stalled, reasonObjectivesUnmet, "")
			},
			want: map[string]string{"Ready": "True/Complete", "Complete": "True/Complete", "ObjectivesMet": "False/NotMet"},
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
					t.Errorf("%s is %q, want none", kind, got[kind])
				}
			}
		})
	}
}

func TestWarningsAreNotedBesideReadiness(t *testing.T) {
	t.Parallel()
	f := healthy()
	f.warnings = []string{"90 % of 500 exits a second leave", "processor.replicas is 0"}
	ready := meta.FindStatusCondition(conditionsOf(f), v1alpha1.ConditionReady)
	const want = "Generators and processors run; note: 90 % of 500 exits a second leave; processor.replicas is 0"
	if ready.Status != metav1.ConditionTrue || ready.Message != want {
		t.Errorf("Ready is %s: %s\nwant True: %s", ready.Status, ready.Message, want)
	}
}

func TestWhatWasNotCheckedKeepsItsCondition(t *testing.T) {
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
		t.Errorf("there are %d conditions, want those of before as well", len(have))
	}
}

func TestTransitionsAreTold(t *testing.T) {
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
	const open, unmet = "Unknown/NotComplete", "False/NotMet"
	tests := map[string]struct {
		before, now *v1alpha1.ParkingSimulationStatus
		want        []string
	}{
		"that it comes up is no news":         {status("", "", nil), status("False/Progressing", open, nil), nil},
		"nothing has changed":                 {status("True/Running", unmet, started), status("True/Running", unmet, started), nil},
		"a Secret is missing from the start":  {status("", "", nil), status("False/SecretNotFound", open, nil), []string{"Warning SecretNotFound: as SecretNotFound"}},
		"what was missing is there":           {status("False/SecretNotFound", open, nil), status("False/Progressing", open, nil), []string{"Normal Progressing: as Progressing"}},
		"it has started":                      {status("False/Progressing", open, nil), status("True/Running", open, started), []string{"Normal Started: Servers and processors are ready: the generators start", "Normal Running: as Running"}},
		"a pod fails":                         {status("True/Running", open, started), status("False/PodsFailing", open, started), []string{"Warning PodsFailing: as PodsFailing"}},
		"it can no longer pass":               {status("True/Running", open, started), status("True/Running", unmet, started), []string{"Warning ObjectivesNotMet: The verdict will be FAIL: as NotMet"}},
		"it is complete, which is told once":  {status("True/Running", open, started), status("True/Complete", unmet, failed), []string{"Warning Complete: The verdict is FAIL; 1 event was lost"}},
		"that it is complete is no news then": {status("True/Complete", unmet, failed), status("True/Complete", unmet, failed), nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, n := range transitions(tt.before, tt.now) {
				got = append(got, n.kind+" "+n.reason+": "+n.text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConditionsAreListedByImportance(t *testing.T) {
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
