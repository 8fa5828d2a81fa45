// Package faulttest provides helpers for tests of the implementations of fault.Injector.
package faulttest

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Hit describes an occurrence of a fault as text. The indexes are those of the target's instances that the fault
// hits.
func Hit(name string, number int, target plan.FaultTarget, indexes []int) string {
	return fmt.Sprintf("%s/%d: %s %v", name, number, target, indexes)
}

// Planned returns the planned occurrences in the format of Hit, earliest first. A target without an entry in instances
// has one instance.
func Planned(p *plan.Plan, instances map[plan.FaultTarget]int) []string {
	var hits []string
	for o := range fault.Occurrences(p) {
		hits = append(hits, Hit(o.Fault, o.Number, o.Target, o.Pick(max(instances[o.Target], 1))))
	}
	return hits
}
