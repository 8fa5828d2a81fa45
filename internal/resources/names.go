package resources

import (
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// These are the keys of the labels of a simulation's objects. Kubernetes recommends the labels with the prefix
// app.kubernetes.io.
const (
	// SimulationLabel is the label whose value is the name of the simulation. The operator selects objects by this
	// label.
	SimulationLabel = v1alpha1.Group + "/simulation"
	// ComponentLabel is the label whose value is the Component that the object belongs to.
	ComponentLabel = "app.kubernetes.io/component"
	// ScrapeLabel is the label of the Service through which Prometheus scrapes the pods of a component.
	ScrapeLabel = v1alpha1.Group + "/scrape"

	nameLabel      = "app.kubernetes.io/name"
	instanceLabel  = "app.kubernetes.io/instance"
	partOfLabel    = "app.kubernetes.io/part-of"
	managedByLabel = "app.kubernetes.io/managed-by"
)

const (
	// OperatorName is the value of the label app.kubernetes.io/name of the operator's pods, and of the label
	// app.kubernetes.io/managed-by of the objects that the operator creates.
	OperatorName = "parking-operator"
	partOf       = "parking-simulation"

	// ConfigHashAnnotation is the pod annotation with a hash of the configuration that processes read only at their
	// start. A change of the hash replaces the pods.
	ConfigHashAnnotation = v1alpha1.Group + "/config-hash"
)

// Component is a part of a simulation. Its value is also the value of ComponentLabel, and the suffix of the name that
// Name returns.
type Component string

// These are the components of a simulation.
const (
	ComponentEntry     Component = "entry"
	ComponentExit      Component = "exit"
	ComponentProcessor Component = "processor"
	ComponentRabbitMQ  Component = "rabbitmq"
	ComponentRedis     Component = "redis"
	ComponentSummaries Component = "summaries"

	// The following components have objects but no pods.
	ComponentAgent   Component = "agent"
	componentAll     Component = "simulation"
	componentMonitor Component = "monitoring"
)

// Name returns the name that a component's objects share. It is unique: no component name contains a dash, so the last
// dash always separates simulation and component.
func Name(sim *v1alpha1.ParkingSimulation, c Component) string { return sim.Name + "-" + string(c) }

// ServiceAccountName returns the name of the ServiceAccount that all pods of the simulation use.
func ServiceAccountName(sim *v1alpha1.ParkingSimulation) string { return sim.Name + "-pods" }

// PlanName returns the name of the ConfigMap that contains the plan.
func PlanName(sim *v1alpha1.ParkingSimulation) string { return sim.Name + "-plan" }

// PlanKey is the key of the plan in its ConfigMap.
const PlanKey = "plan.json"

// BrokerSecretName returns the name of the Secret with the binding of RabbitMQ: the one in the spec, or the one that
// Build creates.
func BrokerSecretName(sim *v1alpha1.ParkingSimulation) string {
	if ref := sim.Spec.RabbitMQ.SecretRef; ref != nil {
		return ref.Name
	}
	return Name(sim, ComponentRabbitMQ)
}

// StoreSecretName returns the name of the Secret with the binding of Redis: the one in the spec, or the one that Build
// creates.
func StoreSecretName(sim *v1alpha1.ParkingSimulation) string {
	if ref := sim.Spec.Redis.SecretRef; ref != nil {
		return ref.Name
	}
	return Name(sim, ComponentRedis)
}

// Selector returns the labels that select the pods of a component.
func Selector(sim *v1alpha1.ParkingSimulation, c Component) map[string]string {
	return map[string]string{SimulationLabel: sim.Name, ComponentLabel: string(c)}
}

func labels(sim *v1alpha1.ParkingSimulation, c Component) map[string]string {
	return merged(Selector(sim, c), map[string]string{
		nameLabel:      program(c),
		instanceLabel:  sim.Name,
		partOfLabel:    partOf,
		managedByLabel: OperatorName,
	})
}

// program returns the name of the program that runs in a component's pods, for the label app.kubernetes.io/name.
func program(c Component) string {
	switch c {
	case ComponentRabbitMQ, ComponentRedis:
		return string(c)
	default:
		return "parking"
	}
}

// object returns the metadata of an object of a component. The owner reference makes Kubernetes delete the object
// together with the simulation.
func (b *builder) object(name string, c Component) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: b.sim.Namespace,
		Name:      name,
		Labels:    labels(b.sim, c),
		OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(b.sim, v1alpha1.GroupVersion.WithKind(v1alpha1.Kind)),
		},
	}
}

func (b *builder) name(c Component) string { return Name(b.sim, c) }

func (b *builder) selector(c Component) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: Selector(b.sim, c)}
}

// host returns the DNS name of a Service, or of a pod behind a headless Service.
func (b *builder) host(name string) string {
	return name + "." + b.sim.Namespace + ".svc." + b.ClusterDomain
}

// merged returns the union of maps. If several maps have the same key, the value in the last of these maps is used.
func merged[V any](all ...map[string]V) map[string]V {
	union := map[string]V{}
	for _, m := range all {
		maps.Copy(union, m)
	}
	return union
}
