package resources

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

const summariesData = "/var/lib/parking"

// summaryAPI returns the objects of a managed summary API, or nothing for an external one.
func (b *builder) summaryAPI() ([]client.Object, error) {
	if b.summaries == nil {
		return nil, nil
	}
	build := b.summariesStatefulSet
	if b.summaries.Database != nil {
		build = b.summariesDeployment
	}
	workload, err := build()
	if err != nil {
		return nil, err
	}
	objects := []client.Object{b.summariesService(), workload}
	return append(objects, b.disruptionBudget(ComponentSummaries, *b.summaries.Replicas)...), nil
}

func (b *builder) summariesService() client.Object {
	meta := b.object(b.name(ComponentSummaries), ComponentSummaries)
	meta.Labels[ScrapeLabel] = scrape
	return &corev1.Service{
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			Selector: Selector(b.sim, ComponentSummaries),
			Ports:    []corev1.ServicePort{b.clientPort(ComponentSummaries, portHTTP, HTTPPort)},
		},
	}
}

// summariesStatefulSet returns the workload of a summary API that stores the summaries in SQLite on a volume.
func (b *builder) summariesStatefulSet() (client.Object, error) {
	container := b.summariesContainer("--database", summariesData+"/summaries.db")
	container.VolumeMounts = []corev1.VolumeMount{mount(dataVolume, summariesData), mount("tmp", "/tmp")} // SQLite sorts in /tmp
	template, err := b.summariesTemplate(container, emptyDir("tmp"))
	if err != nil {
		return nil, err
	}
	return b.statefulSet(set{
		component: ComponentSummaries,
		service:   b.name(ComponentSummaries),
		replicas:  1,
		storage:   b.summaries.Storage,
		template:  template,
	}), nil
}

// summariesDeployment returns the workload of a summary API that stores the summaries in PostgreSQL.
func (b *builder) summariesDeployment() (client.Object, error) {
	container := b.summariesContainer("--database-secret", databaseDir, "--database-schema", SummarySchema(b.sim))
	container.VolumeMounts = []corev1.VolumeMount{readOnly("database", databaseDir)}
	// Mount all keys of the user's Secret, because the operator does not know which keys are in use.
	template, err := b.summariesTemplate(container, secretVolume("database", b.summaries.Database.SecretRef.Name))
	if err != nil {
		return nil, err
	}
	return b.deployment(ComponentSummaries, *b.summaries.Replicas, template, appsv1.RollingUpdateDeployment{
		MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
	}), nil
}

func (b *builder) summariesContainer(options ...string) corev1.Container {
	return b.parkingContainer(append([]string{"summaries"}, options...),
		resources(b.summaries.Resources.Core(), requirements("20m", "64Mi", "512Mi")))
}

func (b *builder) summariesTemplate(container corev1.Container, volumes ...corev1.Volume) (corev1.PodTemplateSpec, error) {
	volumes = b.serveTLS(ComponentSummaries, &container, volumes)
	return b.template(pod{
		component: ComponentSummaries, user: parkingUser, grace: parkingGrace,
		containers: []corev1.Container{container},
		volumes:    volumes,
		patch:      b.summaries.Template, path: templatePath(ComponentSummaries), main: ContainerParking,
	})
}

// SummarySchema returns the name of the PostgreSQL schema of a simulation. Simulations can share a database. The name
// contains the UID, so that a new simulation of the same name does not count the old summaries.
func SummarySchema(sim *v1alpha1.ParkingSimulation) string {
	const (
		maxBytes = 63 // the longest name that PostgreSQL does not truncate
		uidBytes = 12
	)
	uid := strings.ReplaceAll(string(sim.UID), "-", "")
	suffix := "_" + uid[:min(len(uid), uidBytes)]
	name := "parking_" + strings.ReplaceAll(sim.Namespace+"_"+sim.Name, "-", "_")
	return name[:min(len(name), maxBytes-len(suffix))] + suffix
}

// databasePolicy allows the summary API to connect to any address, because the IP addresses of the database are
// unknown.
func (b *builder) databasePolicy() client.Object {
	return b.policy(b.sim.Name+"-database", ComponentSummaries, networkingv1.NetworkPolicySpec{
		PodSelector: *b.selector(ComponentSummaries),
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
		Egress:      []networkingv1.NetworkPolicyEgressRule{{}},
	})
}
