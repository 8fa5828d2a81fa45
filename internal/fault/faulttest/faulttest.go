// Package faulttest provides helpers for tests of the implementations of fault.Injector.
package faulttest

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Hit returns a text that names an occurrence of a fault, its target, and the indexes of the hit instances.
func Hit(name string, number int, target plan.FaultTarget, indexes []int) string {
	return fmt.Sprintf("%s/%d: %s %v", name, number, target, indexes)
}

// Planned returns one string for each planned occurrence, in the format of Hit, in the order in which the
// occurrences are due. The map contains the number of instances of each target. Targets that are not in the map
// have one instance.
func Planned(p *plan.Plan, instances map[plan.FaultTarget]int) []string {
	var hits []string
	for o := range fault.Occurrences(p) {
		hits = append(hits, Hit(o.Fault, o.Number, o.Target, o.Pick(max(instances[o.Target], 1))))
	}
	return hits
}
