package resources

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Images are the default container images. The spec of a simulation can set other images.
type Images struct {
	// Parking is the image of our own components. Its entrypoint is the parking command.
	Parking string
	// RabbitMQ and Redis are the images of managed servers.
	RabbitMQ, Redis string
	// RedisExporter is the image of the program that exports the metrics of a managed Redis. If it is empty, the
	// metrics of Redis are not exported.
	RedisExporter string
	// PullPolicy is the image pull policy of every container. If it is empty, the default of Kubernetes applies.
	PullPolicy corev1.PullPolicy
	// PullSecrets are the names of image pull secrets in the simulation's namespace.
	PullSecrets []string
}

// Credentials are the credentials of managed servers. They are generated once and later read from the Secrets of
// the servers. Credentials of external servers are empty.
type Credentials struct {
	BrokerPassword, ErlangCookie string
	RedisPassword                string
	// Agent contains the credentials of the agents that inject faults. It is empty if no fault needs an agent.
	Agent AgentCredentials
	// Authority signs the certificates that the operator makes. It is empty if the operator makes no certificates.
	Authority certificates.Authority
	// Certificates contains the certificates of the components that use TLS, by the name of the Secret that contains
	// the certificate.
	Certificates map[string]CertificateData
}

// Served says which CRDs of the Prometheus Operator are installed in the cluster.
type Served struct {
	ServiceMonitors, PrometheusRules bool
	// NativeHistograms says that the ServiceMonitor CRD has the field scrapeNativeHistograms.
	NativeHistograms bool
}

// Input is everything that the objects of a simulation depend on.
type Input struct {
	// Resolved contains the simulation and its plan. The simulation must have a namespace, a name and a UID. Build
	// modifies neither the simulation nor the plan.
	Resolved    *manifest.Resolved
	Images      Images
	Credentials Credentials
	// BrokerAddress is the data of a RabbitmqCluster's Secret, or empty if it is unknown or not needed. Build copies
	// the data, because pods cannot mount Secrets of other namespaces.
	BrokerAddress map[string][]byte
	// StartTime is when the schedules begin, or nil until this time is known. The plan is suspended while StartTime
	// is nil.
	StartTime *metav1.Time
	// HoldClients keeps generators and processors at zero replicas until pods may mount the Secrets that they need,
	// and until RabbitMQ has formed its cluster. A RabbitMQ node that joins later gets no replicas of queues
	// that already exist.
	HoldClients bool
	// Complete is true if the simulation has ended. Build then scales the generators to zero.
	Complete bool
	Served   Served
	// ClusterDomain is the DNS domain of the cluster. If it is empty, cluster.local applies.
	ClusterDomain string
	// OperatorNamespace is the namespace of the operator, which connects to RabbitMQ and Redis. If it is empty, the
	// network policies admit operators in any namespace.
	OperatorNamespace string
	// ClusterAssignsUserIDs says that the cluster chooses the user and group IDs of pods, as OpenShift does. Build
	// then sets no IDs.
	ClusterAssignsUserIDs bool
	// AllowPrivilegedTemplates lets pod templates in the spec set any field. If it is false, Build returns a
	// *TemplateNotAllowedError for a template that could give its author more rights.
	AllowPrivilegedTemplates bool
	// OperatorPriorityClass is the priority class of the operator's pods, or empty. Pod templates in the spec may use
	// this class only if AllowPrivilegedTemplates is true.
	OperatorPriorityClass string
}

// Build returns every object that runs the simulation, in the order in which to apply them. If a field of the spec is
// invalid, the error contains its path.
func Build(in Input) ([]client.Object, error) {
	b, err := newBuilder(in)
	if err != nil {
		return nil, err
	}
	var objects []client.Object
	for _, build := range []func() ([]client.Object, error){
		b.access, b.agents, b.certificates, b.broker, b.store, b.summaryAPI, b.workloads, b.monitoring,
	} {
		built, err := build()
		if err != nil {
			return nil, fmt.Errorf("build the objects of %s/%s: %w", b.sim.Namespace, b.sim.Name, err)
		}
		objects = append(objects, built...)
	}
	return objects, nil
}

type builder struct {
	Input

	// sim and plan are copied from Input.Resolved.
	sim  *v1alpha1.ParkingSimulation
	plan *plan.Plan
	// rabbitMQ, redis and summaries are the settings of the managed servers. Each of them is nil if the server is
	// external.
	rabbitMQ  *v1alpha1.ManagedRabbitMQ
	redis     *v1alpha1.ManagedRedis
	summaries *v1alpha1.ManagedSummaryAPI
}

func newBuilder(in Input) (*builder, error) {
	sim := in.Resolved.Simulation
	in.ClusterDomain = cmp.Or(in.ClusterDomain, defaultClusterDomain)
	b := &builder{
		Input: in, sim: sim, plan: in.Resolved.Plan,
		rabbitMQ:  sim.Spec.RabbitMQ.ManagedOrDefault(),
		redis:     sim.Spec.Redis.ManagedOrDefault(),
		summaries: sim.Spec.SummaryAPI.ManagedOrDefault(),
	}
	return b, b.checkCredentials()
}

// credential is the pattern of credentials that need no quotes in the configuration files of RabbitMQ and Redis.
var credential = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

// checkCredentials rejects credentials with characters that have a special meaning in a configuration file. Its errors
// do not contain the credentials.
func (b *builder) checkCredentials() error {
	const want = "must be 1 to 255 letters, digits, dashes and underscores: delete the key of this credential from the Secret, and the operator generates a new credential"
	values := map[string]string{}
	if b.rabbitMQ != nil {
		values["the password of RabbitMQ"] = b.Credentials.BrokerPassword
		values["the Erlang cookie of RabbitMQ"] = b.Credentials.ErlangCookie
	}
	if b.redis != nil {
		values["the password of Redis"] = b.Credentials.RedisPassword
	}
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(values)) {
		if !credential.MatchString(values[what]) {
			errs = append(errs, fmt.Errorf("%s %s", what, want))
		}
	}
	return errors.Join(errs...)
}
