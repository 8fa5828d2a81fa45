package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
