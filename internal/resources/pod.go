package resources

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// These are the user IDs of the containers. RabbitMQ runs as the user of its image. The other images work with any
// user.
const (
	parkingUser  = 65532
	rabbitMQUser = 999
	redisUser    = 999
)

// pod holds the values in which the pod templates of the components differ.
type pod struct {
	component  Component
	user       int64
	grace      int64 // seconds
	containers []corev1.Container
	volumes    []corev1.Volume
	// patch is the pod template in the spec, or nil. The field path is the path of this template in the spec.
	patch *v1alpha1.PodTemplate
	path  *field.Path
	// main is the name of the main container. The pod template in the spec must not remove this container.
	main string
}

// template returns the pod template of a component, with the patch from the spec. Unpatched pods meet the restricted
// Pod Security Standard and have no API token.
func (b *builder) template(p pod) (corev1.PodTemplateSpec, error) {
	spec := corev1.PodSpec{
		ServiceAccountName:            ServiceAccountName(b.sim),
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false), // a program could mistake the environment variables of Services for settings
		TerminationGracePeriodSeconds: new(p.grace),
		SecurityContext:               b.securityContext(p.user),
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{
			b.spread(p.component, corev1.LabelHostname), b.spread(p.component, corev1.LabelTopologyZone),
		},
		Containers: b.hardened(p.containers),
		Volumes:    p.volumes,
	}
	for _, name := range b.Images.PullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	b.addAgent(&spec, p)
	template, err := b.merge(corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels(b.sim, p.component)},
		Spec:       spec,
	}, p)
	limitGoMemory(&template.Spec)
	return template, err
}

// securityContext forbids the user root. If the cluster assigns the user and group IDs, securityContext sets no IDs,
// because such a cluster rejects IDs outside of the range of the namespace.
func (b *builder) securityContext(user int64) *corev1.PodSecurityContext {
	c := &corev1.PodSecurityContext{
		RunAsNonRoot:        new(true),
		FSGroupChangePolicy: new(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if !b.ClusterAssignsUserIDs {
		c.RunAsUser, c.RunAsGroup, c.FSGroup = new(user), new(user), new(user)
	}
	return c
}

// withConfigHash makes a change of the configuration replace the pods. Use it for configuration that a process reads
// only when it starts.
func withConfigHash(template corev1.PodTemplateSpec, config any) corev1.PodTemplateSpec {
	template.Annotations = merged(template.Annotations, map[string]string{ConfigHashAnnotation: hash(config)})
	return template
}

// spread returns a constraint that distributes pods over topology domains, such as nodes, but never prevents their
// scheduling.
func (b *builder) spread(c Component, key string) corev1.TopologySpreadConstraint {
	return corev1.TopologySpreadConstraint{
		MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: b.selector(c),
	}
}

// hardened sets the pull policy and a restrictive security context in all containers.
func (b *builder) hardened(containers []corev1.Container) []corev1.Container {
	for i := range containers {
		containers[i].ImagePullPolicy = b.Images.PullPolicy
		containers[i].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
	}
	return containers
}

func hash(config any) string {
	text, err := json.Marshal(config) // json.Marshal sorts the keys of maps, so equal maps have equal hashes
	if err != nil {
		text = []byte(err.Error()) // json.Marshal never fails here, because configurations consist of strings and numbers
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// resources returns the resources in the spec, or the defaults if the spec sets none.
func resources(spec *corev1.ResourceRequirements, defaults corev1.ResourceRequirements) corev1.ResourceRequirements {
	if spec != nil {
		return *spec.DeepCopy()
	}
	return defaults
}

// requirements returns the default resources of a container. Requests are small, so that several simulations fit on a
// small cluster. High rates need larger requests in the spec.
func requirements(cpu, memory, memoryLimit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(cpu),
			corev1.ResourceMemory: resource.MustParse(memory),
		},
		// A CPU limit would only add latency.
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memoryLimit)},
	}
}

// memoryShare returns the given percentage of a container's memory limit, as a number of bytes. It returns 0 if the
// container has no limit.
func memoryShare(spec corev1.PodSpec, container string, percent int64) int64 {
	for i := range spec.Containers {
		if spec.Containers[i].Name == container {
			limit := spec.Containers[i].Resources.Limits[corev1.ResourceMemory]
			return limit.Value() / 100 * percent
		}
	}
	return 0
}

// memoryLimitVariable is the environment variable that makes the Go runtime collect garbage before the container
// reaches its memory limit.
const memoryLimitVariable = "GOMEMLIMIT"

// limitGoMemory sets GOMEMLIMIT in the container "parking" to a percentage of the container's memory limit. If a patch
// has set the variable, limitGoMemory does not change the value.
func limitGoMemory(spec *corev1.PodSpec) {
	const percent = 90
	bytes := memoryShare(*spec, ContainerParking, percent)
	for i := range spec.Containers {
		c := &spec.Containers[i]
		isSet := slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == memoryLimitVariable })
		if c.Name == ContainerParking && bytes > 0 && !isSet {
			c.Env = append(c.Env, corev1.EnvVar{Name: memoryLimitVariable, Value: strconv.FormatInt(bytes, 10)})
		}
	}
}

// httpProbe returns a probe that requests a path on the port named portHTTP.
func httpProbe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString(portHTTP)},
		},
		PeriodSeconds: period, TimeoutSeconds: probeTimeout, FailureThreshold: failures,
	}
}

// probeTimeout is in seconds. It exceeds the timeout of our readiness checks, so that a check can report its own error
// first.
const probeTimeout = 3

// These settings of startup probes allow two minutes, because a busy node may need that long to start a process.
const (
	startupPeriod   = 1   // period in seconds
	startupFailures = 120 // failure threshold
)

// A short period makes pods ready soon after RabbitMQ. Several failures are tolerated, because our components wait
// until a server is back.
const (
	readinessPeriod   = 2 // period in seconds
	readinessFailures = 5 // failure threshold
)

func containerPort(name string, number int32) corev1.ContainerPort {
	return corev1.ContainerPort{Name: name, ContainerPort: number, Protocol: corev1.ProtocolTCP}
}

func servicePort(name string, number int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromString(name), Protocol: corev1.ProtocolTCP}
}

func emptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

// secretMode lets only the user and the group of the container read a mounted Secret.
const secretMode = 0o440

// secretVolume returns a volume with the given keys of a Secret, or with all keys if none is given.
func secretVolume(name, secret string, keys ...string) corev1.Volume {
	source := &corev1.SecretVolumeSource{SecretName: secret, DefaultMode: new(int32(secretMode))}
	for _, key := range keys {
		source.Items = append(source.Items, corev1.KeyToPath{Key: key, Path: key})
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: source}}
}

func mount(name, path string) corev1.VolumeMount {
	return corev1.VolumeMount{Name: name, MountPath: path}
}

func readOnly(name, path string) corev1.VolumeMount {
	return corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: true}
}

// IsReady reports whether a pod has the condition Ready.
func IsReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
