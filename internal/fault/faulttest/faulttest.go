// Package faulttest has what tests of injectors share.
package faulttest

import (
	"fmt"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Hit describes one occurrence of a fault, and the indexes of the instances that it hits.
func Hit(name string, number int, target plan.FaultTarget, indexes []int) string {
	return fmt.Sprintf("%s/%d: %s %v", name, number, target, indexes)
}

// Planned describes all occurrences of a plan in their order. instances is the number of instances of each target; it is
// 1 for targets that are not in it.
func Planned(p *plan.Plan, instances map[plan.FaultTarget]int) []string {
	var hits []string
	for o := range fault.Occurrences(p) {
		hits = append(hits, Hit(o.Fault, o.Number, o.Target, o.Pick(max(instances[o.Target], 1))))
	}
	return hits
}
