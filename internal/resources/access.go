package resources

import (
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// access are the objects that say what the pods may do: nothing with the API, and only what is needed on
// the network.
func (b *builder) access() ([]client.Object, error) {
	return append([]client.Object{b.serviceAccount()}, b.networkPolicies()...), nil
}

// serviceAccount is that of all pods of the simulation. It has no permissions, and no pod gets its token.
func (b *builder) serviceAccount() client.Object {
	return &corev1.ServiceAccount{
		ObjectMeta:                   b.object(ServiceAccountName(b.sim), componentAll),
		AutomountServiceAccountToken: new(false),
	}
}
