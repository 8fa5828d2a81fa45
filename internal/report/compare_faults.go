package report

import (
	"slices"

	"github.com/parking-operator/parking-operator/internal/fault"
)

// recoveryKey is the key of the threshold that applies to the recovery times of all faults.
const recoveryKey = "recovery"

// faultPrefix is the beginning of the keys of the metrics of faults.
const faultPrefix = "fault."

// faultMetrics returns two metrics for each fault: the recovery time, and the number of occurrences without recovery.
func faultMetrics(before, after *Document) []metric {
	var all []metric
	names := faultNames(before)
	for _, name := range faultNames(after) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		recoveries := func(d *Document) []float64 { return recoveriesFrom(d, name) }
		all = append(all, metric{
			key: faultPrefix + name + ".recovery", name: "recovery from " + name, thresholdKey: recoveryKey,
			threshold: recoveryThreshold, floor: recoveryFloor, recoveries: recoveries,
			text: secondsText,
			total: func(d *Document) (float64, bool) {
				seconds := recoveries(d)
				if len(seconds) == 0 {
					return 0, false
				}
				return Median(seconds), true
			},
		}, metric{
			key: faultPrefix + name + ".unrecovered", name: "no recovery from " + name,
			text: countText,
			total: func(d *Document) (float64, bool) {
				n, occurred := unrecovered(d, name)
				return float64(n), occurred
			},
		})
	}
	return all
}

// faultNames returns the names of the faults that occurred in a run, without duplicates.
func faultNames(d *Document) []string {
	var names []string
	for _, t := range d.totals() {
		if !slices.Contains(names, t.Fault) {
			names = append(names, t.Fault)
		}
	}
	return names
}

// recoveriesFrom returns how long each recovery from a fault took, in seconds and in ascending order.
func recoveriesFrom(d *Document, name string) []float64 {
	var seconds []float64
	for i := range d.Faults {
		a := &d.Faults[i]
		if a.Fault == name && a.Outcome == fault.OutcomeRecovered && a.RecoverySeconds != nil {
			seconds = append(seconds, *a.RecoverySeconds)
		}
	}
	slices.Sort(seconds)
	return seconds
}

// unrecovered returns the number of occurrences without a recovery, for any reason. It returns false if the fault has
// no occurrence.
func unrecovered(d *Document, name string) (n int64, occurred bool) {
	for _, t := range d.totals() {
		if t.Fault == name {
			occurred = true
			n += t.Occurrences() - t.Recovered
		}
	}
	return n, occurred
}
