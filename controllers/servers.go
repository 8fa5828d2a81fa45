package controllers

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// secretKeys says what a referenced Secret is to hold.
const secretKeys = "uri, or host, port, username and password; and ca.crt for TLS"

// resolveServers finds out where RabbitMQ and Redis are, from the Secrets that say so.
func (r *Reconciler) resolveServers(ctx context.Context, s *scope) error {
	spec := &s.sim.Spec
	var err error
	switch {
	case spec.RabbitMQ.SecretRef != nil:
		s.broker, err = r.bySecret(ctx, binding.RabbitMQ(), s.key.Namespace, spec.RabbitMQ.SecretRef.Name)
	case spec.RabbitMQ.ClusterRef != nil:
		s.broker, err = r.byCluster(ctx, s)
	default:
		s.broker, err = r.ownServer(ctx, s, binding.RabbitMQ(), resources.ComponentRabbitMQ)
	}
	if err != nil {
		return err
	}
	if ref := spec.Redis.SecretRef; ref != nil {
		s.store, err = r.bySecret(ctx, binding.Redis(), s.key.Namespace, ref.Name)
	} else {
		s.store, err = r.ownServer(ctx, s, binding.Redis(), resources.ComponentRedis)
	}
	return err
}

// ownServer reads the binding of a managed server, which is not there before the first reconcile.
func (r *Reconciler) ownServer(ctx context.Context, s *scope, service binding.Service, c resources.Component) (server, error) {
	own := server{managed: true, secret: resources.Name(s.sim, c)}
	secret, ok := s.live[childKey{"Secret", own.secret}].(*corev1.Secret)
	if !ok {
		// The cache may be late: to generate a password anew would lock everybody out.
		var err error
		secret, err = r.readSecret(ctx, s.key.Namespace, own.secret)
		if err != nil || secret == nil {
			return own, err
		}
	}
	own.data, own.version = secret.Data, secret.ResourceVersion
	if address, err := binding.Data(service, secret.Data); err == nil {
		own.address = &address
	}
	return own, nil
}

// bySecret reads the binding in a Secret of the user's.
func (r *Reconciler) bySecret(ctx context.Context, service binding.Service, namespace, name string) (server, error) {
	named := server{secret: name}
	secret, err := r.readSecret(ctx, namespace, name)
	switch {
	case err != nil:
		return named, err
	case secret == nil:
		named.finding = found(stalled, reasonSecretMissing,
			"Secret %s/%s, which says where %s is, does not exist: create it with the keys %s", namespace, name, service.Name, secretKeys)
		return named, nil
	}
	address, err := binding.Data(service, secret.Data)
	if err != nil {
		named.finding = found(stalled, reasonSecretInvalid,
			"Secret %s/%s does not say where %s is: %s. Give it the keys %s", namespace, name, service.Name, err, secretKeys)
		return named, nil
	}
	named.data, named.version, named.address = secret.Data, secret.ResourceVersion, &address
	return named, nil
}

// readSecret reads a Secret from the API server, as the cache holds only those of simulations. It returns
// nil when there is none.
func (r *Reconciler) readSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.direct.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // there is no Secret, and that is no error
	case err != nil:
		return nil, fmt.Errorf("read Secret %s/%s: %w", namespace, name, err)
	}
	return secret, nil
}

// rabbitmqClusters is the kind of the RabbitMQ Cluster Operator.
func rabbitmqClusters() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "rabbitmq.com", Version: "v1beta1", Kind: "RabbitmqCluster"}
}

// allowedNamespaces is the annotation by which the owner of a RabbitmqCluster lets other namespaces use
// it, as the operators of RabbitMQ read it: names with commas between them, or "*".
const allowedNamespaces = "rabbitmq.com/topology-allowed-namespaces"

// byCluster reads the binding of a RabbitmqCluster: the Secret of its default user.
func (r *Reconciler) byCluster(ctx context.Context, s *scope) (server, error) {
	ref := s.sim.Spec.RabbitMQ.ClusterRef
	key := client.ObjectKey{Namespace: orElse(ref.Namespace, s.key.Namespace), Name: ref.Name}
	named := server{secret: resources.BrokerSecretName(s.sim)}
	if copied, ok := s.live[childKey{"Secret", named.secret}].(*corev1.Secret); ok {
		// What stays in use while the cluster cannot be read.
		named.data, named.version = copied.Data, copied.ResourceVersion
	}
	if !s.served.rabbitmqClusters {
		named.finding = found(stalled, reasonKindNotServed,
			"This Kubernetes cluster has no RabbitmqClusters: install the RabbitMQ Cluster Operator, or name a Secret in rabbitmq.secretRef")
		return named, nil
	}
	cluster := &unstructured.Unstructured{}
	cluster.SetGroupVersionKind(rabbitmqClusters())
	err := r.direct.Get(ctx, key, cluster)
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		named.finding = found(stalled, reasonClusterMissing, "RabbitmqCluster %s does not exist: create it, or correct rabbitmq.clusterRef", key)
		return named, nil
	case err != nil:
		return named, fmt.Errorf("read RabbitmqCluster %s: %w", key, err)
	case !allows(cluster, s.key.Namespace):
		named.finding = found(stalled, reasonClusterDenied,
			"RabbitmqCluster %s is not open to namespace %s: add that to its annotation %s", key, s.key.Namespace, allowedNamespaces)
		return named, nil
	}
	return r.defaultUser(ctx, named, key, cluster)
}

// allows reports whether simulations in the namespace may use the cluster: those in its own always may.
func allows(cluster client.Object, namespace string) bool {
	if cluster.GetNamespace() == namespace {
		return true
	}
	for name := range strings.SplitSeq(cluster.GetAnnotations()[allowedNamespaces], ",") {
		if name = strings.TrimSpace(name); name == namespace || name == "*" {
			return true
		}
	}
	return false
}

func (r *Reconciler) defaultUser(ctx context.Context, named server, key client.ObjectKey, cluster *unstructured.Unstructured) (server, error) {
	name, _, err := unstructured.NestedString(cluster.Object, "status", "binding", "name")
	if err != nil || name == "" {
		named.finding = found(progressing, reasonClusterUnready, "RabbitmqCluster %s has no default user yet (status.binding)", key)
		return named, nil //nolint:nilerr // a status of another form is one that says nothing
	}
	user, err := r.bySecret(ctx, binding.RabbitMQ(), key.Namespace, name)
	if err != nil || user.data == nil {
		named.finding = user.finding
		return named, err
	}
	copied := map[string][]byte{}
	for name, value := range user.data {
		if slices.Contains(binding.RabbitMQ().Keys(), name) {
			copied[name] = value
		}
	}
	named.data, named.address = copied, user.address
	return named, nil
}

// generateCredentials makes the passwords of managed servers that have none. They are kept in the servers'
// Secrets and read back from there.
func (r *Reconciler) generateCredentials(_ context.Context, s *scope) error {
	var broker, store map[string][]byte
	if s.broker.managed {
		broker = s.broker.data
	}
	if s.store.managed {
		store = s.store.data
	}
	s.credentials = resources.ReadCredentials(broker, store)
	if s.broker.managed {
		fill(&s.credentials.BrokerPassword, rand.Text())
		fill(&s.credentials.ErlangCookie, rand.Text())
	}
	if s.store.managed {
		fill(&s.credentials.RedisPassword, rand.Text())
	}
	return nil
}

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
