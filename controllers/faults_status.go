package controllers

import (
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// maxFaults and maxFaultMessage are the limits that the CRD sets for the status.
const (
	maxFaults       = 20
	maxFaultMessage = 1024
)

// faultsStatus converts the measured effects of faults to the form that they have in the status. It returns nil if
// the list is empty.
func faultsStatus(accounts []fault.Account) *v1alpha1.FaultsStatus {
	if len(accounts) == 0 {
		return nil
	}
	worst := faultStatus(&fault.Worst(accounts, 1)[0])
	status := &v1alpha1.FaultsStatus{Worst: &worst}
	var active []string
	for i := range accounts {
		a := &accounts[i]
		if !a.InjectedAt.IsZero() {
			status.Injected++
		}
		switch a.Outcome {
		case fault.OutcomeActive:
			active = append(active, a.ID())
		case fault.OutcomeRecovered:
			status.Recovered++
		case fault.OutcomeNotRecovered:
			status.NotRecovered++
		case fault.OutcomeNotInjected:
			status.NotInjected++
		case fault.OutcomeAborted:
			status.Aborted++
		}
		if i >= len(accounts)-maxFaults {
			status.Latest = append(status.Latest, faultStatus(a))
		}
	}
	for _, r := range fault.Results(accounts) {
		status.Results = append(status.Results, resultStatus(&r))
	}
	status.Active = excerpt.Of(strings.Join(active, ", "), maxFaultMessage)
	return status
}

// resultStatus converts a result to the form that it has in the status. A result sums up all faults with the same
// target and action.
func resultStatus(r *fault.Result) v1alpha1.FaultResult {
	status := v1alpha1.FaultResult{
		Target: v1alpha1.FaultTarget(r.Target), Action: v1alpha1.FaultAction(r.Action),
		InProgress: int32(r.InProgress), Recovered: int32(r.Recovered), NotRecovered: int32(r.NotRecovered),
		NotInjected: int32(r.NotInjected), Aborted: int32(r.Aborted),
	}
	if r.Recovered > 0 {
		status.TotalRecovery = v1alpha1.NewDuration(r.Recovery.Round(10 * time.Millisecond))
		status.SlowestRecovery = v1alpha1.NewDuration(r.Slowest.Round(10 * time.Millisecond))
	}
	return status
}

// resultOf is the inverse of resultStatus.
func resultOf(s *v1alpha1.FaultResult) fault.Result {
	return fault.Result{
		Target: plan.FaultTarget(s.Target), Action: plan.FaultAction(s.Action),
		InProgress: int(s.InProgress), Recovered: int(s.Recovered), NotRecovered: int(s.NotRecovered),
		NotInjected: int(s.NotInjected), Aborted: int(s.Aborted),
		Recovery: s.TotalRecovery.Value(), Slowest: s.SlowestRecovery.Value(),
	}
}

func faultStatus(a *fault.Account) v1alpha1.FaultStatus {
	status := v1alpha1.FaultStatus{
		Name: a.Fault, Number: int32(min(a.Number, 1<<31-1)),
		Outcome: string(a.Outcome), Message: excerpt.Of(a.Message, maxFaultMessage),
	}
	if !a.InjectedAt.IsZero() {
		status.InjectedTime = wholeSeconds(a.InjectedAt)
	}
	if !a.HealedAt.IsZero() {
		status.HealedTime = wholeSeconds(a.HealedAt)
	}
	if a.RecoverySeconds != nil {
		took := time.Duration(*a.RecoverySeconds * float64(time.Second))
		status.Recovery = v1alpha1.NewDuration(took.Round(10 * time.Millisecond))
	}
	return status
}
