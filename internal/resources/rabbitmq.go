package resources

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Ports of RabbitMQ.
const (
	amqpNumber            = 5672
	epmdNumber            = 4369
	distributionNumber    = 25672
	rabbitMQMetricsNumber = 15692

	portAMQP       = "amqp"
	portPrometheus = "prometheus"
)

const (
	rabbitMQHome    = "/var/lib/rabbitmq"
	rabbitMQConf    = "/etc/rabbitmq"
	cookieMount     = "/run/secrets/erlang"
	keyRabbitMQConf = "rabbitmq.conf"
	keyAdvancedConf = "advanced.config"

	// rabbitMQUserName is the user of a managed RabbitMQ. It never changes, so that a new password takes the
	// place of the old one.
	rabbitMQUserName = "parking"
	keyPlugins       = "enabled_plugins"

	// rabbitMQGrace is in seconds: what a node may take to hand over its leaders and to flush its queues.
	rabbitMQGrace = 120
)

// broker are the objects of the broker: a RabbitMQ, a copy of the Secret of a RabbitmqCluster, or none
// when a Secret of the user's says where it is.
func (b *builder) broker() ([]client.Object, error) {
	switch {
	case b.rabbitMQ != nil:
		secret, err := b.rabbitMQSecret()
		if err != nil {
			return nil, err
		}
		template, err := b.rabbitMQTemplate()
		if err != nil {
			return nil, err
		}
		config := b.rabbitMQConfigMap(template.Spec)
		return append([]client.Object{
			secret, config, b.rabbitMQNodesService(), b.rabbitMQService(), b.rabbitMQStatefulSet(template, config),
		}, b.disruptionBudget(ComponentRabbitMQ, *b.rabbitMQ.Replicas)...), nil
	case b.sim.Spec.RabbitMQ.ClusterRef != nil && len(b.BrokerAddress) > 0:
		return []client.Object{b.clusterSecret()}, nil
	default:
		return nil, nil
	}
}

// rabbitMQConfigMap configures the nodes, but for the user, whose definition is in the Secret.
func (b *builder) rabbitMQConfigMap(spec corev1.PodSpec) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: b.object(b.name(ComponentRabbitMQ), ComponentRabbitMQ),
		Data: map[string]string{
			keyRabbitMQConf: b.rabbitMQConf(spec),
			keyAdvancedConf: b.rabbitMQAdvancedConf(),
			keyPlugins:      "[rabbitmq_prometheus].\n",
		},
	}
}

// rabbitMQConf has only keys that RabbitMQ 3.10 and 4 both know.
//
// The nodes find each other by their names, which the StatefulSet fixes, so that they need no access to
// the Kubernetes API. All of them start at once: those of RabbitMQ 4 wait until they see another one, and
// of those before it one takes a lock, and starts alone after it has waited in vain for one that did. The
// wait is as long as it may take until the names of pods resolve.
func (b *builder) rabbitMQConf(spec corev1.PodSpec) string {
	lines := []string{
		"cluster_name = " + b.plan.Simulation,
		fmt.Sprintf("listeners.tcp.default = %d", amqpNumber),
		// The user is read at every start, so that the nodes follow their Secret.
		"load_definitions = " + rabbitMQConf + "/" + keyDefinitions,
		"cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config",
		"cluster_formation.discovery_retry_limit = 90",
		"cluster_formation.discovery_retry_interval = 500",
	}
	for i := range *b.rabbitMQ.Replicas {
		lines = append(lines, fmt.Sprintf("cluster_formation.classic_config.nodes.%d = rabbit@%s", i+1, b.rabbitMQNode(fmt.Sprintf("%s-%d", b.name(ComponentRabbitMQ), i))))
	}
	if *b.rabbitMQ.Replicas > 1 {
		lines = append(lines, "cluster_partition_handling = pause_minority")
	}
	// Quorum queues keep their log in memory up to this size before they write it out, several times over.
	lines = append(lines, "raft.wal_max_size_bytes = 67108864")
	// What a node needs beside its queues comes out of the rest.
	const percent = 80
	if available := memoryShare(spec, string(ComponentRabbitMQ), percent); available > 0 {
		lines = append(lines, fmt.Sprintf("total_memory_available_override_value = %d", available))
	}
	return strings.Join(lines, "\n") + "\n"
}

// rabbitMQAdvancedConf has what rabbitmq.conf cannot have, since RabbitMQ before 3.13 refuses keys that it does
// not know: a queue that was declared before all nodes had found each other grows, soon after, onto the others.
// The interval is in milliseconds.
func (b *builder) rabbitMQAdvancedConf() string {
	return fmt.Sprintf(`[{rabbit, [
  {quorum_membership_reconciliation_enabled, true},
  {quorum_membership_reconciliation_target_group_size, %d},
  {quorum_membership_reconciliation_interval, 60000}
]}].
`, *b.rabbitMQ.Replicas)
}

// rabbitMQNode is the host name of a pod.
func (b *builder) rabbitMQNode(pod string) string { return pod + "." + b.host(b.rabbitMQNodes()) }

func (b *builder) rabbitMQNodes() string { return b.name(ComponentRabbitMQ) + "-nodes" }

func (b *builder) rabbitMQResources() corev1.ResourceRequirements {
	return resources(b.rabbitMQ.Resources, requirements("80m", "512Mi", "1Gi"))
}

// rabbitMQNodesService gives the nodes their names, from before they are ready: they need them to become
// ready.
func (b *builder) rabbitMQNodesService() client.Object {
	return &corev1.Service{
		ObjectMeta: b.object(b.rabbitMQNodes(), ComponentRabbitMQ),
		Spec: corev1.ServiceSpec{
			ClusterIP:                corev1.ClusterIPNone,
			PublishNotReadyAddresses: true,
			Selector:                 Selector(b.sim, ComponentRabbitMQ),
			Ports:                    []corev1.ServicePort{servicePort("epmd", epmdNumber), servicePort("distribution", distributionNumber)},
		},
	}
}

// rabbitMQService is where clients connect and metrics are scraped.
func (b *builder) rabbitMQService() client.Object {
	meta := b.object(b.name(ComponentRabbitMQ), ComponentRabbitMQ)
	meta.Labels[ScrapeLabel] = scrape
	return &corev1.Service{
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			Selector: Selector(b.sim, ComponentRabbitMQ),
			Ports:    []corev1.ServicePort{servicePort(portAMQP, amqpNumber), servicePort(portPrometheus, rabbitMQMetricsNumber)},
		},
	}
}

func (b *builder) rabbitMQTemplate() (corev1.PodTemplateSpec, error) {
	return b.template(pod{
		component:  ComponentRabbitMQ,
		user:       rabbitMQUser,
		grace:      rabbitMQGrace,
		init:       []corev1.Container{b.cookieContainer()},
		containers: []corev1.Container{b.rabbitMQContainer()},
		volumes: []corev1.Volume{
			b.rabbitMQConfVolume(), secretVolume("cookie", b.name(ComponentRabbitMQ), keyErlangCookie), emptyDir("tmp"),
		},
		patch: b.rabbitMQ.Template, path: field.NewPath("spec", "rabbitmq", "managed", "template"), main: string(ComponentRabbitMQ),
	})
}

func (b *builder) rabbitMQStatefulSet(template corev1.PodTemplateSpec, config *corev1.ConfigMap) client.Object {
	return b.statefulSet(set{
		component: ComponentRabbitMQ,
		service:   b.rabbitMQNodes(),
		replicas:  *b.rabbitMQ.Replicas,
		template:  withConfigHash(template, []any{config.Data, hash(b.Credentials.BrokerPassword)}),
		storage:   b.rabbitMQ.Storage,
	})
}

// cookieContainer copies the cookie, because Erlang refuses one that others than its owner may read, and
// a Secret cannot be mounted for its owner alone. A node keeps the cookie that it has had: with another one
// it would not find the others, which are replaced one after the other.
func (b *builder) cookieContainer() corev1.Container {
	const script = `cookie=` + rabbitMQHome + `/.erlang.cookie
if [ -s "$cookie" ]; then source="$cookie"; else source=` + cookieMount + "/" + keyErlangCookie + `; fi
umask 377
rm -f "$cookie.new"
cat "$source" > "$cookie.new"
mv -f "$cookie.new" "$cookie"
`
	return corev1.Container{
		Name:         "cookie",
		Image:        b.rabbitMQImage(),
		Command:      []string{"sh", "-ec", script},
		Resources:    b.rabbitMQResources(), // a pod needs the larger of this and the node's: so this adds nothing
		VolumeMounts: []corev1.VolumeMount{mount(dataVolume, rabbitMQHome), readOnly("cookie", cookieMount)},
	}
}

func (b *builder) rabbitMQContainer() corev1.Container {
	c := corev1.Container{
		Name:      string(ComponentRabbitMQ),
		Image:     b.rabbitMQImage(),
		Command:   rabbitMQCommand("exec rabbitmq-server"),
		Env:       b.rabbitMQEnvironment(),
		Ports:     []corev1.ContainerPort{containerPort(portAMQP, amqpNumber), containerPort(portPrometheus, rabbitMQMetricsNumber), containerPort("epmd", epmdNumber), containerPort("distribution", distributionNumber)},
		Resources: b.rabbitMQResources(),
		VolumeMounts: []corev1.VolumeMount{
			mount(dataVolume, rabbitMQHome), readOnly("config", rabbitMQConf), mount("tmp", "/tmp"),
		},
		// There is no liveness probe: a node that waits for another one would be killed while it recovers.
		ReadinessProbe: tcpProbe(portAMQP),
	}
	if *b.rabbitMQ.Replicas > 1 {
		c.Lifecycle = &corev1.Lifecycle{PreStop: b.awaitQuorum()}
	}
	return c
}

// awaitQuorum delays the end of a node while a queue would lose its majority by it, for a minute at most. Once
// the Service of the nodes is gone, and with it their names, the whole cluster is being deleted, and nobody
// has to wait.
func (b *builder) awaitQuorum() *corev1.LifecycleHandler {
	script := `for _ in 1 2 3 4 5 6; do
  getent hosts ` + b.host(b.rabbitMQNodes()) + ` >/dev/null || exit 0
  rabbitmq-upgrade await_online_quorum_plus_one -t 8 && exit 0
done
exit 0`
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: rabbitMQCommand(script)}}
}

// rabbitMQCommand runs a command of RabbitMQ. Debian's commands of the same names in /usr/sbin insist on
// another user; these are the originals.
func rabbitMQCommand(command string) []string {
	return []string{"sh", "-c", `PATH="/usr/lib/rabbitmq/bin:$PATH"; ` + command}
}

func (b *builder) rabbitMQEnvironment() []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
		{Name: "RABBITMQ_NODENAME", Value: "rabbit@" + b.rabbitMQNode("$(POD_NAME)")},
		{Name: "RABBITMQ_USE_LONGNAME", Value: "true"},
		{Name: "RABBITMQ_DIST_PORT", Value: strconv.Itoa(distributionNumber)},
		{Name: "RABBITMQ_CONFIG_FILE", Value: rabbitMQConf + "/rabbitmq"}, // the extension is added
		{Name: "RABBITMQ_ADVANCED_CONFIG_FILE", Value: rabbitMQConf + "/" + keyAdvancedConf},
		{Name: "RABBITMQ_ENABLED_PLUGINS_FILE", Value: rabbitMQConf + "/" + keyPlugins},
		{Name: "RABBITMQ_MNESIA_BASE", Value: rabbitMQHome + "/mnesia"},
		{Name: "RABBITMQ_LOG_BASE", Value: rabbitMQHome + "/log"},
		{Name: "RABBITMQ_LOGS", Value: "-"},
		// Idle schedulers leave the node's cores at once to the pods that they are shared with, as RabbitMQ's guide to
		// tuning its runtime advises.
		{Name: "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", Value: "+sbwt none +sbwtdcpu none +sbwtdio none"},
		{Name: "HOME", Value: rabbitMQHome},
		{Name: "LANG", Value: "C.UTF-8"},
	}
}

// rabbitMQConfVolume brings the two halves of the configuration together.
func (b *builder) rabbitMQConfVolume() corev1.Volume {
	name := corev1.LocalObjectReference{Name: b.name(ComponentRabbitMQ)}
	return corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(secretMode)),
		Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name, Items: []corev1.KeyToPath{
				{Key: keyRabbitMQConf, Path: keyRabbitMQConf}, {Key: keyAdvancedConf, Path: keyAdvancedConf}, {Key: keyPlugins, Path: keyPlugins},
			}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: name, Items: []corev1.KeyToPath{
				{Key: keyDefinitions, Path: keyDefinitions},
			}}},
		},
	}}}
}

func (b *builder) rabbitMQImage() string {
	if b.rabbitMQ.Image != "" {
		return b.rabbitMQ.Image
	}
	return b.Images.RabbitMQ
}

// tcpProbe is for servers of which nothing more can be asked without logging in.
func tcpProbe(port string) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString(port)}},
		PeriodSeconds: 5, TimeoutSeconds: probeTimeout, FailureThreshold: 3,
	}
}
