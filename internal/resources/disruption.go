package resources

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// disruptionBudget lets the drain of nodes evict one pod of a component at a time. A component of one pod
// gets none: it could only block a drain or change nothing.
func (b *builder) disruptionBudget(c Component, replicas int32) []client.Object {
	if replicas < 2 {
		return nil
	}
	return []client.Object{&policyv1.PodDisruptionBudget{
		ObjectMeta: b.object(b.name(c), c),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)),
			Selector:       b.selector(c),
			// A pod that is not ready does no work that an eviction could interrupt.
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		},
	}}
}
