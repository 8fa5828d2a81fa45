package resources

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// disruptionBudget returns a PodDisruptionBudget that allows one eviction at a time. It returns nil for a single pod,
// because a budget would block the drain of its node.
func (b *builder) disruptionBudget(c Component, replicas int32) []client.Object {
	if replicas < 2 {
		return nil
	}
	return []client.Object{&policyv1.PodDisruptionBudget{
		ObjectMeta: b.object(b.name(c), c),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)),
			Selector:       b.selector(c),
			// A pod that is not ready does no work, so its eviction interrupts nothing.
			UnhealthyPodEvictionPolicy: new(policyv1.AlwaysAllow),
		},
	}}
}
