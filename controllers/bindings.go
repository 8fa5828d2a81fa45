package controllers

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/cert"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

// server describes a server of a simulation: RabbitMQ, Redis, PostgreSQL, the summary API, or the metrics servers of
// the generators and processors.
type server struct {
	// name is the name of the server in messages, such as "RabbitMQ" or "the summary API".
	name    string
	managed bool
	// ownSecret is the name of the Secret that the operator creates for the server. It is "" if the operator creates no
	// Secret for the server.
	ownSecret string
	// origin says where the address and the credentials of the server come from, such as "Secret default/redis", for
	// messages.
	origin string
	// data is the data of the Secret with the binding, including the password. It is nil if the operator has not read
	// this Secret.
	data map[string][]byte
	// version is the resource version of the Secret that the pods mount.
	version    string
	binding    *binding.Binding // the current address and credentials, or nil
	remembered *binding.Binding // the last known address and credentials, or nil
	// denied is true if the simulation is not permitted to use the server's Secret or RabbitmqCluster.
	denied bool
	// withheld is true if pods must not mount the server's Secret.
	withheld bool
	// certificate is the user's server certificate, with its CA certificates. It is empty if the operator issues the
	// certificate, or without TLS.
	certificate resources.CertificateData
	// finding says why the address or the credentials of the server are unknown, or why the user's certificate cannot
	// be used.
	finding finding
}

// credentialsSecret is the Secret with the credentials of an external summary API.
type credentialsSecret struct {
	version string
	// withheld is true if pods must not mount the Secret.
	withheld bool
	finding  finding
}

// secretKeys returns a text that lists the keys of a Secret with the binding of a server.
func secretKeys(service binding.Service) string {
	location := "host, port"
	if service == binding.PostgreSQL() {
		location += ", database"
	}
	return location + ", username and password (or only uri instead); for TLS, also ca.crt"
}

// resolveBindings determines the bindings (addresses and credentials) of RabbitMQ, Redis and PostgreSQL, and the
// credentials of an external summary API.
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
	if managed := spec.SummaryAPI.Managed; managed != nil && managed.Database != nil {
		if s.database, err = r.referencedServer(ctx, s, binding.PostgreSQL(), managed.Database.SecretRef.Name); err != nil {
			return err
		}
	}
	if err := r.readSummaryAPISecret(ctx, s); err != nil {
		return err
	}
	s.summaries = server{name: "the summary API", managed: spec.SummaryAPI.URL == ""}
	if err := r.readCertificate(ctx, s, &s.summaries, resources.ComponentSummaries); err != nil {
		return err
	}
	s.metrics = server{name: "the metrics", managed: true}
	if err := r.readCertificate(ctx, s, &s.metrics, resources.ComponentEntry, resources.ComponentExit, resources.ComponentProcessor); err != nil {
		return err
	}
	s.holdForSecrets()
	r.secrets.retain(s.key, s.secretsRead)
	r.rememberBindings(s)
	return nil
}

// managedServer reads the binding of a managed server from the Secret that the operator creates. While the Secret does
// not exist, the server has no binding.
func (r *Reconciler) managedServer(ctx context.Context, s *scope, service binding.Service, c resources.Component) (server, error) {
	name := resources.Name(s.sim, c)
	own := server{name: service.Name, managed: true, ownSecret: name, origin: fmt.Sprintf("Secret %s/%s", s.key.Namespace, name)}
	secret, err := r.ownSecret(ctx, s, name)
	if err != nil {
		return own, err
	}
	if secret != nil {
		own.data, own.version = secret.Data, secret.ResourceVersion
		if address, err := binding.Data(service, secret.Data); err == nil {
			own.binding = &address
		}
	}
	return own, r.readCertificate(ctx, s, &own, c)
}

// ownSecret returns the simulation's Secret with the given name, or nil if it does not exist. If a Secret of another
// owner has the name, ownSecret records that.
func (r *Reconciler) ownSecret(ctx context.Context, s *scope, name string) (*corev1.Secret, error) {
	if secret, ok := s.children[childKey{"Secret", name}].(*corev1.Secret); ok {
		return secret, nil
	}
	// The cache may lack a new Secret. Read directly, because another password would lock out clients with the first
	// password.
	key := client.ObjectKey{Namespace: s.key.Namespace, Name: name}
	secret, err := r.getSecret(ctx, key)
	if err != nil || secret == nil || metav1.IsControlledBy(secret, s.sim) {
		return secret, err
	}
	s.taken[childKey{"Secret", name}] = &apply.NameTakenError{Kind: "Secret", Key: key}
	return nil, nil //nolint:nilnil // the simulation has no such Secret
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
		named.withheld, named.finding = s.recordMissing(key, "the binding of "+service.Name, "the keys "+secretKeys(service))
		return named, nil
	case !allowsSimulation(secret, s.key.Name):
		named.denied, named.withheld = true, true
		named.finding = notAllowed(secret, s.key.Name)
		return named, nil
	}
	address, err := binding.Data(service, secret.Data)
	if err == nil {
		err = wiring.CheckBinding(service, address)
	}
	if err != nil {
		named.finding = found(stalled, reasonSecretInvalid,
			"Secret %s has no valid binding for %s: %s. It needs the keys %s", key, service.Name, err, secretKeys(service))
		return named, nil
	}
	named.data, named.version, named.binding = secret.Data, secret.ResourceVersion, &address
	return named, nil
}

// notAllowed returns the finding for a Secret whose owner does not permit the simulation to use the Secret.
func notAllowed(secret *corev1.Secret, simulation string) finding {
	return simulationDenied(secret, "secret", "Secret "+client.ObjectKeyFromObject(secret).String(), reasonSecretNotAllowed, simulation)
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
		s.summaryAPI.withheld, s.summaryAPI.finding = s.recordMissing(key, "the credentials for the summary API", `the key "token", or the keys "username" and "password"`)
	case !allowsSimulation(secret, s.key.Name):
		s.summaryAPI.withheld = true
		s.summaryAPI.finding = notAllowed(secret, s.key.Name)
	default:
		s.summaryAPI.version = secret.ResourceVersion
		if err := binding.HTTP().CheckData(spec.URL, secret.Data); err != nil {
			s.summaryAPI.finding = found(stalled, reasonSecretInvalid, "Secret %s has no valid credentials for the summary API: %s", key, err)
		}
	}
	return nil
}

// isWithheld reports whether the simulation needs a Secret that pods must not mount. Generators and processors then do
// not run, because they need the Secret or its server.
func (s *scope) isWithheld() bool {
	return s.broker.withheld || s.store.withheld || s.database.withheld || s.summaryAPI.withheld || s.summaries.withheld ||
		s.metrics.withheld
}

// recordMissing records a missing Secret, and tells the user which content and keys it needs. isWithheld is false if
// existing pods already mount the Secret.
//
// A new pod must not wait for a missing Secret: the kubelet would mount it even without its owner's permission.
func (s *scope) recordMissing(secret client.ObjectKey, content, keys string) (isWithheld bool, f finding) {
	s.missing[secret.Name] = true
	isWithheld = true
	var waits string
	for _, child := range s.children {
		if slices.Contains(mountedSecrets(child), secret.Name) {
			isWithheld, waits = false, ". Until it exists again, the pods that already mount it keep running, and edits that replace, add or remove pods wait"
		}
	}
	return isWithheld, found(stalled, reasonSecretMissing, "Secret %s with %s does not exist: create it with %s%s", secret, content, keys, waits)
}

// holdForSecrets postpones edits of workloads until the missing Secrets exist.
func (s *scope) holdForSecrets() {
	switch names := slices.Sorted(maps.Keys(s.missing)); len(names) {
	case 0:
	case 1:
		s.held = hold{reasonSecretMissing, "Secret " + names[0] + " exists"}
	default:
		s.held = hold{reasonSecretMissing, "Secrets " + strings.Join(names, ", ") + " exist"}
	}
}

// mountsMissing reports whether the pods of a workload mount a Secret that does not exist.
func (s *scope) mountsMissing(workload client.Object) bool {
	return slices.ContainsFunc(mountedSecrets(workload), func(secret string) bool { return s.missing[secret] })
}

// mountedSecrets returns the names of the Secrets that the pods of a workload mount. It returns nil for 0 replicas,
// and for objects that are not workloads.
func mountedSecrets(object client.Object) []string {
	var replicas *int32
	var volumes []corev1.Volume
	switch workload := object.(type) {
	case *appsv1.Deployment:
		replicas, volumes = workload.Spec.Replicas, workload.Spec.Template.Spec.Volumes
	case *appsv1.StatefulSet:
		replicas, volumes = workload.Spec.Replicas, workload.Spec.Template.Spec.Volumes
	}
	if replicas == nil || *replicas == 0 {
		return nil
	}
	var names []string
	for _, volume := range volumes {
		if volume.Secret != nil {
			names = append(names, volume.Secret.SecretName)
		}
	}
	return names
}

// ensureCredentials generates the missing passwords of managed servers and the missing credentials of agents. Later
// phases store them in Secrets.
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
		setIfEmpty(&s.credentials.BrokerPassword, s.newPassword(s.broker))
		setIfEmpty(&s.credentials.ErlangCookie, s.newPassword(s.broker))
	}
	if s.store.managed {
		setIfEmpty(&s.credentials.RedisPassword, s.newPassword(s.store))
	}
	if err := r.ensureCertificates(ctx, s); err != nil {
		return err
	}
	// Agents keep their credentials after an edit has removed the last fault, because the fault may still be in
	// effect.
	if !resources.HasAgents(s.plan) && s.children[agentSecretKey(s)] == nil {
		return nil
	}
	secret, err := r.ownSecret(ctx, s, resources.Name(s.sim, resources.ComponentAgent))
	if err != nil || s.taken[agentSecretKey(s)] != nil {
		return err
	}
	s.credentials.Agent, err = agentCredentials(secret, s.now)
	return err
}

// newPassword returns a random password for a managed server.
func (s *scope) newPassword(of server) string {
	if s.taken[childKey{"Secret", of.ownSecret}] != nil {
		// The operator cannot store a password, because another owner uses the name of the Secret. Unlike a random
		// password, a constant does not change the workloads at every reconcile.
		return "unused"
	}
	return rand.Text()
}

// renewBefore is the remaining lifetime at which the agents' certificate is renewed. The renewal restarts no agent,
// because an agent reads the certificate for each connection.
const renewBefore = 30 * 24 * time.Hour

// agentCredentials returns the agents' credentials from a Secret. It generates new credentials if the Secret contains
// no valid credentials, or if the certificate expires soon.
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

// pending returns the finding for an external server that has not been observed yet.
func (s server) pending() finding {
	return found(progressing, reasonConnecting, "The operator is connecting to %s (%s)", s.name, s.origin)
}

// reached returns the finding for an observed external server. err says why the operator cannot read from the server.
// unusable says why the simulation cannot use it. Both may be nil.
func (s server) reached(err, unusable error) finding {
	switch {
	case err != nil:
		return found(progressing, reasonUnreachable, "%s (%s) cannot be used: %s. Check the server, the network, and the Secret", s.name, s.origin, err)
	case unusable != nil:
		return found(progressing, reasonUnusable, "%s (%s) answers, but the simulation cannot use it: %s", s.name, s.origin, unusable)
	}
	return found(ready, reasonReady, "%s (%s) answers", s.name, s.origin)
}

// notObserved returns an error that says why the server was not observed.
func (s server) notObserved() error {
	return fmt.Errorf("%s could not be observed: %s", s.name, s.finding.message)
}

// leftOn describes the server in messages about queues or keys that remain on the server.
func (s server) leftOn() string {
	if b := cmp.Or(s.binding, s.remembered); b != nil {
		return fmt.Sprintf("%s at %s (%s)", s.name, b.Redacted(), s.origin)
	}
	return fmt.Sprintf("%s (%s)", s.name, s.origin)
}
