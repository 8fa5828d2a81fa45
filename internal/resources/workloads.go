package resources

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// HTTPPort is the port on which our components serve metrics. The summary API serves its requests on the same port.
const HTTPPort = 8080

const (
	// PortPage is the name of the container port on which processors serve the live page.
	PortPage = "page"
	// pagePort is the number of the port PortPage. Processors listen on the loopback interface only, so other pods
	// cannot connect, but kubectl port-forward can.
	pagePort = 8085

	portHTTP = "http"

	// processGrace is the time in seconds to finish work after SIGTERM. Closing connections takes up to 4 s more.
	processGrace = 25
	// parkingGrace is the termination grace period in seconds. It must exceed processGrace plus the time for closing
	// connections.
	parkingGrace = 40
)

// workloads returns the ConfigMap with the plan, and the Deployments of generators and processors.
func (b *builder) workloads() ([]client.Object, error) {
	var objects []client.Object
	for _, build := range []func() (client.Object, error){
		b.planConfigMap, b.entryDeployment, b.exitDeployment, b.processorDeployment,
	} {
		object, err := build()
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
	return append(objects, b.disruptionBudget(ComponentProcessor, *b.sim.Spec.Processor.Replicas)...), nil
}

func (b *builder) entryDeployment() (client.Object, error) {
	return b.generatorDeployment(ComponentEntry, &b.sim.Spec.Entry.GeneratorSpec)
}

func (b *builder) exitDeployment() (client.Object, error) {
	return b.generatorDeployment(ComponentExit, &b.sim.Spec.Exit.GeneratorSpec)
}

func (b *builder) generatorDeployment(c Component, spec *v1alpha1.GeneratorSpec) (client.Object, error) {
	replicas := *spec.Replicas
	if b.sim.Spec.Suspend || b.Complete || b.HoldClients {
		replicas = 0
	}
	container := b.plannedContainer([]string{"generate", string(c)}, spec.Resources.Core(), "20m")
	volumes := b.serveTLS(c, &container, b.planVolumes())
	template, err := b.template(pod{
		component: c, user: parkingUser, grace: parkingGrace,
		containers: []corev1.Container{container}, volumes: volumes,
		patch: spec.Template, path: templatePath(c), main: ContainerParking,
	})
	if err != nil {
		return nil, err
	}
	if b.plan.Durability != plan.DurabilityWritten {
		// Generators read the durability only when they start, so a change of the durability must replace their pods.
		template = withConfigHash(template, []any{b.plan.Durability})
	}
	// Stop an old pod first: two pods must not generate the same share of the event rate.
	return b.deployment(c, replicas, template, appsv1.RollingUpdateDeployment{
		MaxUnavailable: new(intstr.FromInt32(1)), MaxSurge: new(intstr.FromInt32(0)),
	}), nil
}

// processorDeployment returns the Deployment of the processors. They run while the simulation is suspended, to finish
// queued events, and after its end, to serve the live page.
func (b *builder) processorDeployment() (client.Object, error) {
	spec := &b.sim.Spec.Processor
	replicas := *spec.Replicas
	if b.HoldClients {
		replicas = 0
	}
	container := b.plannedContainer([]string{"process", fmt.Sprintf("--page=127.0.0.1:%d", pagePort)}, spec.Resources.Core(), "40m")
	container.Ports = append(container.Ports, containerPort(PortPage, pagePort))
	volumes := b.serveTLS(ComponentProcessor, &container, b.planVolumes())
	endpoint := b.summaryEndpoint()
	if endpoint.SecretDir != "" {
		container.VolumeMounts = append(container.VolumeMounts, readOnly("summary-api", endpoint.SecretDir))
		volumes = append(volumes, b.summaryAPIVolume())
	}
	template, err := b.template(pod{
		component: ComponentProcessor, user: parkingUser, grace: parkingGrace,
		containers: []corev1.Container{container}, volumes: volumes,
		patch: spec.Template, path: templatePath(ComponentProcessor), main: ContainerParking,
	})
	if err != nil {
		return nil, err
	}
	// A change of these settings changes the hash, which restarts the processors. All other changes of the plan take
	// effect without a restart.
	config := []any{b.plan.Processor.Concurrency, endpoint}
	// Omit the default durability, as earlier versions did: otherwise, an upgrade of the operator would restart the
	// processors.
	if b.plan.Durability != plan.DurabilityWritten {
		config = append(config, b.plan.Durability)
	}
	template = withConfigHash(template, config)
	return b.deployment(ComponentProcessor, replicas, template, appsv1.RollingUpdateDeployment{
		MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
	}), nil
}

// summaryAPIVolume returns the volume with the credentials of an external summary API, or with the CA certificates of a
// managed summary API.
func (b *builder) summaryAPIVolume() corev1.Volume {
	const name = "summary-api"
	if b.summaries != nil {
		return secretVolume(name, b.serverCertificate(ComponentSummaries, b.summaries.TLS).Secret, keyCA)
	}
	return secretVolume(name, b.sim.Spec.SummaryAPI.SecretRef.Name)
}

func (b *builder) deployment(
	c Component, replicas int32, template corev1.PodTemplateSpec, rolling appsv1.RollingUpdateDeployment,
) client.Object {
	return &appsv1.Deployment{
		ObjectMeta: b.object(b.name(c), c),
		Spec: appsv1.DeploymentSpec{
			Replicas:             new(replicas),
			Selector:             b.selector(c),
			Template:             template,
			RevisionHistoryLimit: new(int32(revisions)),
			Strategy: appsv1.DeploymentStrategy{
				Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &rolling,
			},
		},
	}
}

// plannedContainer returns a container that runs a parking command with the mounted plan.
func (b *builder) plannedContainer(command []string, spec *corev1.ResourceRequirements, cpu string) corev1.Container {
	c := b.parkingContainer(append(command, "--plan", planDir+"/"+PlanKey), resources(spec, requirements(cpu, "64Mi", "512Mi")))
	c.VolumeMounts = []corev1.VolumeMount{
		readOnly("plan", planDir), readOnly("rabbitmq", rabbitMQDir), readOnly("redis", redisDir),
	}
	return c
}

func (b *builder) parkingContainer(command []string, r corev1.ResourceRequirements) corev1.Container {
	return corev1.Container{
		Name:           ContainerParking,
		Image:          b.Images.Parking,
		Args:           append(command, fmt.Sprintf("--http=:%d", HTTPPort), fmt.Sprintf("--grace-period=%ds", processGrace)),
		Ports:          []corev1.ContainerPort{containerPort(portHTTP, HTTPPort)},
		Resources:      r,
		StartupProbe:   httpProbe("/healthz", startupPeriod, startupFailures),
		ReadinessProbe: httpProbe("/readyz", readinessPeriod, readinessFailures),
		LivenessProbe:  httpProbe("/healthz", 20, 3),
	}
}

func (b *builder) planVolumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: "plan", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: PlanName(b.sim)},
		}}},
		secretVolume("rabbitmq", BrokerSecretName(b.sim), b.bindingKeys(ComponentRabbitMQ, b.rabbitMQ != nil, keyType, keyHost, keyPort, keyUsername, keyPassword)...),
		secretVolume("redis", StoreSecretName(b.sim), b.bindingKeys(ComponentRedis, b.redis != nil, keyType, keyHost, keyPort, keyPassword)...),
	}
}

// bindingKeys returns the keys that clients mount from a server's Secret. nil means all keys, because the operator does
// not know which keys of a user's Secret matter.
func (b *builder) bindingKeys(c Component, managed bool, keys ...string) []string {
	switch {
	case !managed:
		return nil
	case TLSOf(b.sim, c) != nil:
		keys = append(keys, keyCA)
	}
	return keys
}
