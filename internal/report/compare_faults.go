package report

import (
	"slices"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// recoveryKey is the key of the threshold that applies to the recovery times of all faults.
const recoveryKey = "recovery"

// faultMetrics returns two metrics for each fault that occurred in both runs. One is the recovery time, the other
// is the number of occurrences from which the simulation did not recover. A fault that occurred in only one run is
// not compared, but is listed as a changed setting.
func faultMetrics(before, after *Document) []metric {
	var all []metric
	names := faultNames(after)
	for _, name := range faultNames(before) {
		if !slices.Contains(names, name) {
			continue
		}
		recoveries := func(d *Document) []float64 { return recoveriesFrom(d, name) }
		all = append(all, metric{
			key: "fault." + name + ".recovery", name: "recovery from " + name, thresholdKey: recoveryKey,
			threshold: recoveryThreshold, floor: recoveryFloor, recoveries: recoveries,
			text: func(v float64) string { return terminal.Duration(Seconds(v)) },
			total: func(d *Document) (float64, bool) {
				seconds := recoveries(d)
				if len(seconds) == 0 {
					return 0, false
				}
				return median(seconds), true
			},
		}, metric{
			key: "fault." + name + ".unrecovered", name: "no recovery from " + name,
			text:  func(v float64) string { return terminal.Count(int64(v)) },
			total: func(d *Document) (float64, bool) { return float64(unrecovered(d, name)), true },
		})
	}
	return all
}

// faultNames returns the names of the faults that occurred in a run, without duplicates, in the order of their
// first injection.
func faultNames(d *Document) []string {
	var names []string
	for i := range d.Faults {
		if name := d.Faults[i].Fault; !slices.Contains(names, name) {
			names = append(names, name)
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

// unrecovered counts the occurrences of a fault from which the simulation did not recover. It includes the
// occurrences that could not be injected as planned.
func unrecovered(d *Document, name string) int {
	n := 0
	for i := range d.Faults {
		if a := &d.Faults[i]; a.Fault == name && a.Outcome != fault.OutcomeRecovered {
			n++
		}
	}
	return n
}
