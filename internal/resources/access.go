package resources

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// access returns the objects that restrict the pods of the simulation: a ServiceAccount without rights, and
// NetworkPolicies.
func (b *builder) access() ([]client.Object, error) {
	return append([]client.Object{b.serviceAccount()}, b.networkPolicies()...), nil
}

// serviceAccount returns the ServiceAccount of all pods of the simulation. It has no rights, and no pod mounts its token.
func (b *builder) serviceAccount() client.Object {
	return &corev1.ServiceAccount{
		ObjectMeta:                   b.object(ServiceAccountName(b.sim), componentAll),
		AutomountServiceAccountToken: new(false),
	}
}
