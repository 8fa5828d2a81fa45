package controllers

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// server is the RabbitMQ server or the Redis server that a simulation uses.
type server struct {
	// name is "RabbitMQ" or "Redis".
	name    string
	managed bool
	// origin is the object that the binding (address and credentials) comes from: a Secret or a RabbitmqCluster. It
	// is used in messages.
	origin string
	// data is the data of the Secret with the binding, including the password. It is nil if the Secret has not been
	// read.
	data map[string][]byte
	// version is the resource version of the Secret that the pods mount.
	version string
	// binding is the current binding of the server, or nil if the binding is unknown. remembered is the binding that
	// an earlier reconcile has read. The finalizer uses it to clean up if the Secret no longer exists.
	binding, remembered *binding.Binding
	// denied is true if the owner of the Secret or RabbitmqCluster does not permit the simulation to use this
	// object.
	denied bool
	// finding says why the binding is unknown.
	finding finding
}

// credentialsSecret is the Secret with the credentials of an external summary API.
type credentialsSecret struct {
	version string
	denied  bool
	finding finding
}

// secretKeys is the part of a message that says which keys a Secret with a binding must have.
const secretKeys = "uri, or host, port, username and password; and ca.crt for TLS"

// resolveBindings determines the bindings (addresses and credentials) of RabbitMQ and Redis, and the credentials of
// an external summary API.
func (r *Reconciler) resolveBindings(ctx context.Context, s *scope) error {
	spec := &s.sim.Spec
	var err error
	switch {
	case spec.RabbitMQ.SecretRef != nil:
		s.broker, err = r.referencedServer(ctx, s, binding.RabbitMQ(), spec.RabbitMQ.SecretRef.Name)
	case spec.RabbitMQ.ClusterRef != nil:
		s.broker, err = r.clusterServer(ctx, s)
	default:
		s.broker, err = r.managedServer(ctx, s, binding.RabbitMQ(), resources.ComponentRabbitMQ)
	}
	if err != nil {
		return err
	}
	if ref := spec.Redis.SecretRef; ref != nil {
		s.store, err = r.referencedServer(ctx, s, binding.Redis(), ref.Name)
	} else {
		s.store, err = r.managedServer(ctx, s, binding.Redis(), resources.ComponentRedis)
	}
	if err != nil {
		return err
	}
	if err := r.readSummaryAPISecret(ctx, s); err != nil {
		return err
	}
	r.secrets.retain(s.key, s.secretsRead)
	r.cleaner.remember(s.key, s.broker, s.store)
	return nil
}

// managedServer reads the binding of a managed server from the Secret that the operator creates for the server.
// During the first reconcile, this Secret does not exist yet.
func (r *Reconciler) managedServer(ctx context.Context, s *scope, service binding.Service, c resources.Component) (server, error) {
	own := server{name: service.Name, managed: true, origin: fmt.Sprintf("Secret %s/%s", s.key.Namespace, resources.Name(s.sim, c))}
	secret, err := r.ownSecret(ctx, s, c)
	if err != nil || secret == nil {
		return own, err
	}
	own.data, own.version = secret.Data, secret.ResourceVersion
	if address, err := binding.Data(service, secret.Data); err == nil {
		own.binding = &address
	}
	return own, nil
}

// ownSecret returns the Secret that the operator has created for a component, or nil if it does not exist.
func (r *Reconciler) ownSecret(ctx context.Context, s *scope, c resources.Component) (*corev1.Secret, error) {
	name := resources.Name(s.sim, c)
	if secret, ok := s.children[childKey{"Secret", name}].(*corev1.Secret); ok {
		return secret, nil
	}
	// Read the Secret from the API server, because the cache may lag. If the operator overwrote an existing password
	// with a second one, clients with the first one could no longer connect.
	return r.getSecret(ctx, client.ObjectKey{Namespace: s.key.Namespace, Name: name})
}

// referencedServer reads the binding of an external server from the Secret that the spec refers to.
func (r *Reconciler) referencedServer(ctx context.Context, s *scope, service binding.Service, name string) (server, error) {
	key := client.ObjectKey{Namespace: s.key.Namespace, Name: name}
	named := server{name: service.Name, origin: "Secret " + key.String()}
	secret, err := r.readSecret(ctx, s, key)
	switch {
	case err != nil:
		return named, err
	case secret == nil:
		named.finding = found(stalled, reasonSecretMissing,
			"Secret %s with the binding of %s does not exist: create it with the keys %s", key, service.Name, secretKeys)
		return named, nil
	case !allowsSimulation(secret, s.key.Name):
		named.denied = true
		named.finding = notAllowed(secret, s.key.Name)
		return named, nil
	}
	address, err := binding.Data(service, secret.Data)
	if err != nil {
		named.finding = found(stalled, reasonSecretInvalid,
			"Secret %s has no valid binding of %s: %s. It needs the keys %s", key, service.Name, err, secretKeys)
		return named, nil
	}
	named.data, named.version, named.binding = secret.Data, secret.ResourceVersion, &address
	return named, nil
}

// notAllowed explains that the owner of a Secret does not permit the simulation to use it.
func notAllowed(secret *corev1.Secret, simulation string) finding {
	return found(stalled, reasonSecretNotAllowed, "Secret %s does not allow simulation %s to use it. To allow it, run: %s",
		client.ObjectKeyFromObject(secret), simulation, allowCommand("secret", secret, simulation))
}

// readSummaryAPISecret reads the Secret with the credentials of an external summary API, if the spec refers to one.
func (r *Reconciler) readSummaryAPISecret(ctx context.Context, s *scope) error {
	spec := s.sim.Spec.SummaryAPI
	if spec.URL == "" || spec.SecretRef == nil {
		return nil
	}
	key := client.ObjectKey{Namespace: s.key.Namespace, Name: spec.SecretRef.Name}
	secret, err := r.readSecret(ctx, s, key)
	switch {
	case err != nil:
		return err
	case secret == nil:
		s.summaryAPI.finding = found(stalled, reasonSecretMissing,
			"Secret %s with the credentials for the summary API does not exist: create it with the key token, or username and password", key)
	case !allowsSimulation(secret, s.key.Name):
		s.summaryAPI.denied = true
		s.summaryAPI.finding = notAllowed(secret, s.key.Name)
	default:
		s.summaryAPI.version = secret.ResourceVersion
	}
	return nil
}

// isDenied reports whether the simulation refers to a Secret or RabbitmqCluster that it is not permitted to use. If
// so, no generator or processor may run, because their pods mount the Secret.
func (s *scope) isDenied() bool { return s.broker.denied || s.store.denied || s.summaryAPI.denied }

// ensureCredentials generates passwords for managed servers without a password, and credentials for the agents if
// they have none. The operator stores these passwords and credentials in Secrets of the simulation, and reads the
// Secrets in later reconciles.
func (r *Reconciler) ensureCredentials(ctx context.Context, s *scope) error {
	var broker, store map[string][]byte
	if s.broker.managed {
		broker = s.broker.data
	}
	if s.store.managed {
		store = s.store.data
	}
	s.credentials = resources.ReadCredentials(broker, store)
	if s.broker.managed {
		setIfEmpty(&s.credentials.BrokerPassword, rand.Text())
		setIfEmpty(&s.credentials.ErlangCookie, rand.Text())
	}
	if s.store.managed {
		setIfEmpty(&s.credentials.RedisPassword, rand.Text())
	}
	if !resources.HasAgents(s.plan) {
		return nil
	}
	secret, err := r.ownSecret(ctx, s, resources.ComponentAgent)
	if err != nil {
		return err
	}
	s.credentials.Agent, err = agentCredentials(secret, s.now)
	return err
}

// renewBefore is how long before its expiry the agents' certificate is renewed. Agents need no restart, because they
// read the certificate for each connection.
const renewBefore = 30 * 24 * time.Hour

// agentCredentials returns the agents' credentials from a Secret. It generates new credentials if the Secret has
// none or if the certificate expires soon.
func agentCredentials(secret *corev1.Secret, now time.Time) (resources.AgentCredentials, error) {
	if secret != nil {
		c := resources.ReadAgentCredentials(secret.Data)
		pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.PrivateKey))
		if c.Token != "" && err == nil && now.Add(renewBefore).Before(pair.Leaf.NotAfter) {
			return c, nil
		}
	}
	certificate, key, err := cert.GenerateSelfSignedCertKey(agent.ServerName, nil, nil)
	if err != nil {
		return resources.AgentCredentials{}, fmt.Errorf("generate the certificate of the agents: %w", err)
	}
	return resources.AgentCredentials{Token: rand.Text(), Certificate: string(certificate), PrivateKey: string(key)}, nil
}

func setIfEmpty(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// pending returns the state of an external server that has not been observed yet.
func (s server) pending() finding {
	return found(progressing, reasonConnecting, "The operator is connecting to %s (%s)", s.name, s.origin)
}

// reached returns the state of an external server that has been observed. err is the error of the observation, or
// nil.
func (s server) reached(err error) finding {
	if err != nil {
		return found(progressing, reasonUnreachable, "%s (%s) cannot be used: %s. Check the server, the network, and the Secret", s.name, s.origin, err)
	}
	return found(ready, reasonReady, "%s (%s) answers", s.name, s.origin)
}

// leftOn names the server in messages about queues or keys that could not be removed from it.
func (s server) leftOn() string {
	if b := cmp.Or(s.binding, s.remembered); b != nil {
		return fmt.Sprintf("%s at %s (%s)", s.name, b.Redacted(), s.origin)
	}
	return fmt.Sprintf("%s (%s)", s.name, s.origin)
}
