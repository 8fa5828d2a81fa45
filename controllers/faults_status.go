package controllers

import (
	"math"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// The CRD limits the number of faults in the status, the number of pod names per fault, and the number of characters in
// the message of a fault.
const (
	maxFaults       = 20
	maxHit          = 5
	maxFaultMessage = 1024
)

// faultsStatus returns the status of the faults, or nil without accounts. The counts include the history h of
// occurrences whose records were removed.
func faultsStatus(accounts []fault.Account, h fault.History) *v1alpha1.FaultsStatus {
	if len(accounts) == 0 {
		return nil
	}
	worst := faultStatus(&fault.Worst(accounts, 1)[0])
	status := &v1alpha1.FaultsStatus{Worst: &worst}
	var active []string
	for i := range accounts {
		a := &accounts[i]
		if a.Outcome == fault.OutcomeActive {
			active = append(active, a.ID())
		}
		if i >= len(accounts)-maxFaults {
			status.Latest = append(status.Latest, faultStatus(a))
		}
	}
	for _, r := range fault.Results(fault.Totals(h, accounts)) {
		status.Injected += int32(r.Injected)
		status.Recovered += int32(r.Recovered)
		status.NotRecovered += int32(r.NotRecovered)
		status.NotInjected += int32(r.NotInjected)
		status.Aborted += int32(r.Aborted)
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
		status.TotalRecovery = roundedDuration(r.RecoverySeconds, 10*time.Millisecond)
		status.SlowestRecovery = roundedDuration(r.SlowestSeconds, 10*time.Millisecond)
	}
	return status
}

// resultOf converts a result in the status back to a fault.Result. It is the inverse of resultStatus.
func resultOf(s *v1alpha1.FaultResult) fault.Result {
	return fault.Result{
		Target: plan.FaultTarget(s.Target), Action: plan.FaultAction(s.Action),
		InProgress: int64(s.InProgress), Recovered: int64(s.Recovered), NotRecovered: int64(s.NotRecovered),
		NotInjected: int64(s.NotInjected), Aborted: int64(s.Aborted),
		RecoverySeconds: s.TotalRecovery.Value().Seconds(), SlowestSeconds: s.SlowestRecovery.Value().Seconds(),
	}
}

// faultStatus converts the measured effect of one fault to the form that it has in the status.
func faultStatus(a *fault.Account) v1alpha1.FaultStatus {
	status := v1alpha1.FaultStatus{
		Name: a.Fault, Number: int32(min(a.Number, math.MaxInt32)),
		Target: v1alpha1.FaultTarget(a.Target), Action: v1alpha1.FaultAction(a.Action),
		HitCount: int32(min(len(a.Hit)+a.HitOmitted, math.MaxInt32)), Hit: a.Hit[:min(len(a.Hit), maxHit)], Lost: a.Lost,
		Outcome: string(a.Outcome), Message: excerpt.Of(a.Message, maxFaultMessage),
	}
	if !a.HealedAt.IsZero() {
		status.HealedTime = wholeSeconds(a.HealedAt)
	}
	if a.RecoverySeconds != nil {
		status.Recovery = roundedDuration(*a.RecoverySeconds, 10*time.Millisecond)
	}
	if a.InjectedAt.IsZero() {
		return status // only a fault that was injected has peaks and counts
	}
	status.InjectedTime = wholeSeconds(a.InjectedAt)
	status.PeakLag, status.PeakBacklog = roundedDuration(a.PeakLagSeconds, peakPrecision), a.PeakBacklog
	if a.PeakP99Seconds != nil {
		status.PeakEndToEndP99 = roundedDuration(*a.PeakP99Seconds, peakPrecision)
	}
	status.Redeliveries, status.DuplicatesSuppressed = new(a.Redeliveries), new(a.DuplicatesSuppressed)
	return status
}

// peakPrecision is the precision to which the status rounds the longest latency and the longest lag.
const peakPrecision = 100 * time.Microsecond

// roundedDuration converts seconds to a duration that is a multiple of precision.
func roundedDuration(seconds float64, precision time.Duration) *v1alpha1.Duration {
	return v1alpha1.NewDuration(time.Duration(seconds * float64(time.Second)).Round(precision))
}
