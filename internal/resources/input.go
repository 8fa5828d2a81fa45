package resources

import (
	"errors"
	"fmt"
	"regexp"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// Images are the container images to use unless a simulation names its own.
type Images struct {
	// Parking is the image whose entrypoint is the parking command.
	Parking string
	// RabbitMQ and Redis are the images of managed servers.
	RabbitMQ, Redis string
	// RedisExporter exports the metrics of a managed Redis. If it is empty, they are not exported.
	RedisExporter string
	// PullPolicy is the pull policy of every container. If it is empty, that of Kubernetes applies.
	PullPolicy corev1.PullPolicy
	// PullSecrets are the names of Secrets in the simulation's namespace with which images are pulled.
	PullSecrets []string
}

// Credentials are those of managed servers. They are generated once and then read from the Secrets of the
// servers. Credentials of external servers are empty.
type Credentials struct {
	BrokerPassword, ErlangCookie string
	RedisPassword                string
	// Agent are those of the agents. They are empty if no fault needs agents.
	Agent AgentCredentials
}

// Served says which kinds of the Prometheus Operator the cluster serves.
type Served struct {
	ServiceMonitors, PrometheusRules bool
	// NativeHistograms says that a ServiceMonitor has the field scrapeNativeHistograms.
	NativeHistograms bool
}

// Input holds everything that the objects depend on.
type Input struct {
	// Resolved is the simulation, with a namespace, a name and a UID, and its plan. Build does not modify them.
	Resolved    *manifest.Resolved
	Images      Images
	Credentials Credentials
	// BrokerAddress is the data of the Secret of a RabbitmqCluster. The simulation gets a copy, because pods cannot
	// mount Secrets of other namespaces. It is empty for every other kind of broker.
	BrokerAddress map[string][]byte
	// StartTime is the origin of the schedules. If it is nil, the plan is suspended, so that servers and processors
	// start before the generators.
	StartTime *metav1.Time
	// Forming says that the nodes of a managed RabbitMQ have not formed a cluster yet. No component may connect
	// before, because a queue keeps the members that it was declared with.
	Forming bool
	// Complete stops the generators permanently.
	Complete bool
	Served   Served
	// ClusterDomain is the DNS domain of the cluster. It defaults to cluster.local.
	ClusterDomain string
	// OperatorNamespace is the namespace of the operator, which connects to RabbitMQ and Redis. If it is empty, an
	// operator in any namespace may connect.
	OperatorNamespace string
	// ClusterAssignsUserIDs says that the cluster chooses user and group ids of pods, as OpenShift does.
	ClusterAssignsUserIDs bool
	// AllowPrivilegedTemplates lets templates set any field of a pod. Without it, Build returns a
	// *TemplateNotAllowedError for a template that could give its author more rights.
	AllowPrivilegedTemplates bool
}

// Build returns every object that runs the simulation, in the order in which to apply them. An error names the
// invalid field of the spec.
func Build(in Input) ([]client.Object, error) {
	b, err := newBuilder(in)
	if err != nil {
		return nil, err
	}
	var objects []client.Object
	for _, build := range []func() ([]client.Object, error){
		b.access, b.agents, b.broker, b.store, b.summaryAPI, b.workloads, b.monitoring,
	} {
		built, err := build()
		if err != nil {
			return nil, fmt.Errorf("build the objects of %s/%s: %w", b.sim.Namespace, b.sim.Name, err)
		}
		objects = append(objects, built...)
	}
	return objects, nil
}

// builder holds the values that the builders of the objects share.
type builder struct {
	Input

	// sim and plan are those of Resolved.
	sim  *v1alpha1.ParkingSimulation
	plan *plan.Plan
	// rabbitMQ, redis and summaries are nil if they are external.
	rabbitMQ  *v1alpha1.ManagedRabbitMQ
	redis     *v1alpha1.ManagedRedis
	summaries *v1alpha1.ManagedSummaryAPI
}

func newBuilder(in Input) (*builder, error) {
	sim := in.Resolved.Simulation
	if in.ClusterDomain == "" {
		in.ClusterDomain = "cluster.local"
	}
	b := &builder{
		Input: in, sim: sim, plan: in.Resolved.Plan,
		rabbitMQ:  sim.Spec.RabbitMQ.ManagedOrDefault(),
		redis:     sim.Spec.Redis.ManagedOrDefault(),
		summaries: sim.Spec.SummaryAPI.ManagedOrDefault(),
	}
	return b, b.checkCredentials()
}

// credential matches values that need no quotes in the configuration of RabbitMQ and Redis.
var credential = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

// checkCredentials rejects values that a configuration file would give another meaning. Its errors contain no
// value.
func (b *builder) checkCredentials() error {
	const want = "must be 1 to 255 letters, digits, dashes and underscores: delete its key from the Secret, and the operator generates a new one"
	values := map[string]string{}
	if b.rabbitMQ != nil {
		values["the password of RabbitMQ"] = b.Credentials.BrokerPassword
		values["the Erlang cookie of RabbitMQ"] = b.Credentials.ErlangCookie
	}
	if b.redis != nil {
		values["the password of Redis"] = b.Credentials.RedisPassword
	}
	var errs []error
	for _, what := range sortedKeys(values) {
		if !credential.MatchString(values[what]) {
			errs = append(errs, fmt.Errorf("%s %s", what, want))
		}
	}
	return errors.Join(errs...)
}
