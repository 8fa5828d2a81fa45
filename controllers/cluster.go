package controllers

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// allowedNamespaces is an annotation that permits other namespaces to use a RabbitmqCluster, or a Secret that a
// RabbitmqCluster names. RabbitMQ's Messaging Topology Operator uses the same annotation.
const allowedNamespaces = "rabbitmq.com/topology-allowed-namespaces"

// clusterServer determines the binding of a RabbitmqCluster. The operator copies the binding to a Secret of the
// simulation, because pods cannot mount Secrets of other namespaces.
func (r *Reconciler) clusterServer(ctx context.Context, s *scope) (server, error) {
	named, err := r.findCluster(ctx, s)
	// Without a copy of the Secret, pods would mount any Secret with the name of the copy.
	named.withheld = named.denied || len(named.data) == 0
	return named, err
}

// findCluster reads the RabbitmqCluster. It also reads the binding if the simulation is permitted to use the
// RabbitmqCluster.
func (r *Reconciler) findCluster(ctx context.Context, s *scope) (server, error) {
	ref := s.sim.Spec.RabbitMQ.ClusterRef
	key := client.ObjectKey{Namespace: orElse(ref.Namespace, s.key.Namespace), Name: ref.Name}
	named := server{name: binding.RabbitMQ().Name, origin: "RabbitmqCluster " + key.String()}
	named.useCopy(s)
	if !s.served[resources.RabbitmqClusterKind()] {
		named.finding = found(stalled, reasonKindNotServed,
			"The cluster does not serve the kind RabbitmqCluster: install the RabbitMQ Cluster Operator, or set rabbitmq.secretRef instead")
		return named, nil
	}
	cluster := unstructuredOf(resources.RabbitmqClusterKind())
	err := r.direct.Get(ctx, key, cluster)
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		named.finding = found(stalled, reasonClusterMissing, "RabbitmqCluster %s does not exist: create it, or correct rabbitmq.clusterRef", key)
		return named, nil
	case err != nil:
		return named, fmt.Errorf("read RabbitmqCluster %s: %w", key, err)
	}
	if denied := clusterDenied(cluster, s.key); denied.state != unchecked {
		return server{name: named.name, origin: named.origin, denied: true, finding: denied}, nil
	}
	return r.defaultUser(ctx, s, named, cluster)
}

// useCopy makes the simulation use its own copy of the binding while the RabbitmqCluster cannot be read.
func (s *server) useCopy(scope *scope) {
	copied, ok := scope.children[childKey{"Secret", resources.BrokerSecretName(scope.sim)}].(*corev1.Secret)
	if !ok {
		return
	}
	s.data, s.version = copied.Data, copied.ResourceVersion
	if address, err := binding.Data(binding.RabbitMQ(), copied.Data); err == nil {
		s.remembered = &address
	}
}

// clusterDenied explains why a simulation is not allowed to use a RabbitmqCluster. It returns an empty finding if the
// use is allowed.
func clusterDenied(cluster client.Object, sim client.ObjectKey) finding {
	return missingConsent(cluster, "rabbitmqcluster", "RabbitmqCluster "+client.ObjectKeyFromObject(cluster).String(), reasonClusterDenied, sim)
}

// userDenied returns a finding if the simulation must not use the Secret with the default user of a RabbitmqCluster.
func userDenied(secret *corev1.Secret, cluster client.Object, sim client.ObjectKey) finding {
	// A RabbitmqCluster can name a Secret of someone else, for example with spec.secretBackend.externalSecret. Such a
	// Secret needs its own annotation.
	if metav1.IsControlledBy(secret, cluster) {
		return finding{}
	}
	name := fmt.Sprintf("Secret %s, which RabbitmqCluster %s names but does not own,",
		client.ObjectKeyFromObject(secret), client.ObjectKeyFromObject(cluster))
	return missingConsent(secret, "secret", name, reasonSecretNotAllowed, sim)
}

// simulationDenied returns the finding that an object does not allow a simulation of its namespace to use it. In
// the message, name describes the object, and resource is its kind for kubectl.
func simulationDenied(o client.Object, resource, name, reason, simulation string) finding {
	return found(stalled, reason, "%s does not allow simulation %s to use it. To allow it, run: %s",
		name, simulation, allowCommand(resource, o, simulation))
}

// missingConsent returns a finding if an object in any namespace does not permit a simulation to use it.
func missingConsent(o client.Object, resource, name, reason string, sim client.ObjectKey) finding {
	switch {
	case o.GetNamespace() == sim.Namespace && !allowsSimulation(o, sim.Name):
		return simulationDenied(o, resource, name, reason, sim.Name)
	case o.GetNamespace() != sim.Namespace && !listed(o.GetAnnotations()[allowedNamespaces], sim.Namespace):
		return found(stalled, reason, "%s does not allow namespace %s to use it: add the namespace to its annotation %s",
			name, sim.Namespace, allowedNamespaces)
	}
	return finding{}
}

// defaultUser reads the Secret of the RabbitmqCluster's default user.
func (r *Reconciler) defaultUser(ctx context.Context, s *scope, named server, cluster *unstructured.Unstructured) (server, error) {
	key := client.ObjectKeyFromObject(cluster)
	name := nested(cluster, "status", "binding", "name")
	if name == "" {
		named.finding = noDefaultUser(cluster)
		return named, nil
	}
	secretKey := client.ObjectKey{Namespace: key.Namespace, Name: name}
	named.origin = "Secret " + secretKey.String() + " of RabbitmqCluster " + key.String()
	secret, err := r.readSecret(ctx, s, secretKey)
	switch {
	case err != nil:
		return named, err
	case secret == nil:
		named.finding = found(stalled, reasonSecretMissing, "Secret %s with the default user of RabbitmqCluster %s does not exist: "+
			"check the RabbitMQ Cluster Operator, which creates this Secret", secretKey, key)
		return named, nil
	}
	if denied := userDenied(secret, cluster, s.key); denied.state != unchecked {
		return server{name: named.name, origin: named.origin, denied: true, finding: denied}, nil
	}
	data := maps.Clone(secret.Data)
	maps.DeleteFunc(data, func(key string, _ []byte) bool { return !slices.Contains(binding.RabbitMQ().Keys(), key) })
	if host := defaultVHost.FindStringSubmatch(nested(cluster, "spec", "rabbitmq", "additionalConfig")); host != nil && len(data["vhost"]) == 0 && len(data["uri"]) == 0 {
		data["vhost"] = []byte(host[1])
	}
	if tls := nested(cluster, "spec", "tls", "secretName"); tls != "" {
		named.origin += "; CA certificates belong in ca.crt of Secret " + key.Namespace + "/" + tls
	}
	if failure, err := r.addTLS(ctx, s, cluster, data); err != nil || failure.state != unchecked {
		named.finding = failure
		return named, err
	}
	address, err := binding.Data(binding.RabbitMQ(), data)
	if err != nil {
		named.finding = found(stalled, reasonSecretInvalid, "Secret %s has no valid binding for RabbitMQ: %s", secretKey, err)
		return named, nil
	}
	named.data, named.binding = data, &address
	return named, nil
}

// defaultVHost finds the virtual host of the default user in the configuration of a RabbitmqCluster. The Secret of the
// default user does not contain the virtual host.
var defaultVHost = regexp.MustCompile(`(?m)^\s*default_vhost\s*=\s*(\S+)`)

// noDefaultUser says why a RabbitmqCluster has no Secret with a default user.
func noDefaultUser(cluster *unstructured.Unstructured) finding {
	key := client.ObjectKeyFromObject(cluster)
	if vault, _, err := unstructured.NestedMap(cluster.Object, "spec", "secretBackend", "vault"); err == nil && vault != nil {
		return found(stalled, reasonClusterUnready, "RabbitmqCluster %s keeps its default user in Vault, where the operator cannot read it: "+
			"create a Secret with a user, and name it in rabbitmq.secretRef instead of rabbitmq.clusterRef", key)
	}
	return found(progressing, reasonClusterUnready, "RabbitmqCluster %s has no default user yet (status.binding is empty). If it does not get one, check the RabbitMQ Cluster Operator", key)
}

// addTLS adds the TLS settings of a RabbitmqCluster to the data of a binding. The Secret of the default user may
// lack them.
func (r *Reconciler) addTLS(ctx context.Context, s *scope, cluster *unstructured.Unstructured, data map[string][]byte) (finding, error) {
	tlsName := nested(cluster, "spec", "tls", "secretName")
	if tlsName == "" || len(data["ca.crt"]) > 0 {
		return finding{}, nil
	}
	key := client.ObjectKeyFromObject(cluster)
	var certificates [][]byte
	for _, name := range []string{tlsName, nested(cluster, "spec", "tls", "caSecretName")} {
		if name == "" {
			continue
		}
		secretKey := client.ObjectKey{Namespace: key.Namespace, Name: name}
		secret, err := r.readSecret(ctx, s, secretKey)
		switch {
		case err != nil:
			return finding{}, err
		case secret == nil:
			return found(progressing, reasonClusterUnready, "spec.tls of RabbitmqCluster %s refers to Secret %s, which does not exist yet: create it, or correct spec.tls", key, secretKey), nil
		}
		if ca := bytes.TrimSpace(secret.Data["ca.crt"]); len(ca) > 0 && !slices.ContainsFunc(certificates, func(c []byte) bool { return bytes.Equal(c, ca) }) {
			certificates = append(certificates, ca)
		}
	}
	if len(certificates) > 0 {
		data["ca.crt"] = append(bytes.Join(certificates, []byte("\n")), '\n')
		return finding{}, nil
	}
	if len(data["uri"]) == 0 && len(data["uris"]) == 0 {
		// This URI enables TLS. The binding has no CA certificates, so clients trust those of the operating system.
		data["uri"] = []byte(binding.RabbitMQ().TLSScheme + "://" + net.JoinHostPort(string(data["host"]), orElse(string(data["port"]), "5671")))
	}
	return finding{}, nil
}

// nested returns a string field of an object. It returns "" if the field is missing or is not a string.
func nested(o *unstructured.Unstructured, path ...string) string {
	value, _, err := unstructured.NestedString(o.Object, path...)
	if err != nil {
		return ""
	}
	return value
}
