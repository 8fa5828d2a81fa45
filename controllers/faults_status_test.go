package controllers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/fault"
)

func TestFaultsStatus_ManyFaults_IsBounded(t *testing.T) {
	t.Parallel()
	if got := faultsStatus(nil); got != nil {
		t.Errorf("without faults the status is %+v", got)
	}
	at := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	var accounts []fault.Account
	for i := range 300 {
		a := fault.Account{Fault: "stall", Number: i, InjectedAt: at, HealedAt: at, RecoverySeconds: new(1.234), Outcome: fault.OutcomeRecovered}
		switch {
		case i == 7:
			a.RecoverySeconds, a.Outcome, a.Message = nil, fault.OutcomeNotRecovered, strings.Repeat("x", 5000)
		case i >= 298:
			a.HealedAt, a.RecoverySeconds, a.Outcome = time.Time{}, nil, fault.OutcomeActive
		}
		accounts = append(accounts, a)
	}
	got := faultsStatus(accounts)
	if got.Injected != 300 || got.Recovered != 297 || got.NotRecovered != 1 || got.Active != "stall/298, stall/299" {
		t.Errorf("the status counts %+v", got)
	}
	if got.Worst == nil || got.Worst.Number != 7 || len(got.Worst.Message) > maxFaultMessage {
		t.Errorf("the worst is %+v", got.Worst)
	}
	if len(got.Latest) != maxFaults || got.Latest[maxFaults-1].Number != 299 {
		t.Fatalf("the latest are %+v", got.Latest)
	}
	want := v1alpha1.FaultStatus{
		Name: "stall", Number: 280, InjectedTime: wholeSeconds(at), HealedTime: wholeSeconds(at),
		Recovery: v1alpha1.NewDuration(1230 * time.Millisecond), Outcome: "Recovered",
	}
	if diff := cmp.Diff(want, got.Latest[0]); diff != "" {
		t.Errorf("the first of the latest (-want +got):\n%s", diff)
	}
}
