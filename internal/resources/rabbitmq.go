package resources

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// RabbitMQMetricsPort is the port on which a managed RabbitMQ node serves Prometheus metrics.
const RabbitMQMetricsPort = 15692

const (
	amqpNumber            = 5672
	epmdNumber            = 4369
	distributionNumber    = 25672
	commandsFirstNumber   = distributionNumber + 10000
	commandsLastNumber    = distributionNumber + 10010
	rabbitMQMetricsNumber = RabbitMQMetricsPort

	portAMQP       = "amqp"
	portPrometheus = "prometheus"
)

// RabbitmqClusterKind returns the kind RabbitmqCluster of the RabbitMQ Cluster Operator. Simulations refer to
// RabbitmqClusters but do not own them.
func RabbitmqClusterKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "rabbitmq.com", Version: "v1beta1", Kind: "RabbitmqCluster"}
}

const (
	rabbitMQHome    = "/var/lib/rabbitmq"
	rabbitMQConf    = "/etc/rabbitmq"
	cookieMount     = "/run/secrets/erlang"
	keyRabbitMQConf = "rabbitmq.conf"
	keyAdvancedConf = "advanced.config"
	// keyDistributionConf is the name of the file with the TLS options of the connections between the nodes.
	keyDistributionConf = "distribution.config"
	// nodesCertificateDir is the path at which a node mounts its certificate for the connections between the nodes.
	nodesCertificateDir = "/run/secrets/nodes-tls"

	// rabbitMQUserName is the user of a managed RabbitMQ. It must not change, because RabbitMQ would keep the old
	// user.
	rabbitMQUserName = "parking"
	keyPlugins       = "enabled_plugins"

	// rabbitMQGrace is the termination grace period of a node in seconds. In that time, the node transfers its queue
	// leaders and flushes its queues.
	rabbitMQGrace = 120
)

// broker returns the objects of a managed RabbitMQ, or a copy of the Secret of a RabbitmqCluster. For any other
// external RabbitMQ, it returns nothing.
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

// rabbitMQConfigMap returns the ConfigMap with the configuration of the nodes. The definition of the RabbitMQ user is
// in the Secret, because the definition contains the password.
func (b *builder) rabbitMQConfigMap(spec corev1.PodSpec) *corev1.ConfigMap {
	data := map[string]string{
		keyRabbitMQConf: b.rabbitMQConf(spec),
		keyAdvancedConf: b.rabbitMQAdvancedConf(),
		keyPlugins:      "[rabbitmq_prometheus].\n",
	}
	if b.rabbitMQ.TLS != nil {
		data[keyDistributionConf] = rabbitMQDistributionConf()
	}
	return &corev1.ConfigMap{ObjectMeta: b.object(b.name(ComponentRabbitMQ), ComponentRabbitMQ), Data: data}
}

// rabbitMQConf returns the content of rabbitmq.conf. All keys must exist in RabbitMQ 3.10 and in RabbitMQ 4.
func (b *builder) rabbitMQConf(spec corev1.PodSpec) string {
	lines := append([]string{"cluster_name = " + b.plan.Simulation}, b.rabbitMQListener()...)
	lines = append(lines,
		// Nodes read the definitions at every start.
		"load_definitions = "+rabbitMQConf+"/"+keyDefinitions,
		// This backend needs no access to the Kubernetes API.
		"cluster_formation.peer_discovery_backend = rabbit_peer_discovery_classic_config",
		// Retry until the host names resolve. A node of RabbitMQ 3 that gives up forms a cluster of its own.
		"cluster_formation.discovery_retry_limit = 90",
		"cluster_formation.discovery_retry_interval = 500",
	)
	for i := range *b.rabbitMQ.Replicas {
		lines = append(lines, fmt.Sprintf("cluster_formation.classic_config.nodes.%d = rabbit@%s", i+1, b.rabbitMQNode(fmt.Sprintf("%s-%d", b.name(ComponentRabbitMQ), i))))
	}
	if *b.rabbitMQ.Replicas > 1 {
		lines = append(lines, "cluster_partition_handling = pause_minority")
	}
	// Limit the files of the write-ahead log, because a node keeps several in memory. With the default of 512 MiB each,
	// they would exceed the memory of a small node.
	lines = append(lines, "raft.wal_max_size_bytes = 67108864")
	// RabbitMQ derives its memory high watermark from this percentage of the memory limit. The rest is a reserve, so
	// that the kernel does not kill the container.
	const percent = 80
	if available := memoryShare(spec, string(ComponentRabbitMQ), percent); available > 0 {
		lines = append(lines, fmt.Sprintf("total_memory_available_override_value = %d", available))
	}
	return strings.Join(lines, "\n") + "\n"
}

// rabbitMQListener returns the lines of rabbitmq.conf about the listener for clients. A node reads a changed
// certificate within minutes.
func (b *builder) rabbitMQListener() []string {
	if b.rabbitMQ.TLS == nil {
		return []string{fmt.Sprintf("listeners.tcp.default = %d", amqpNumber)}
	}
	return []string{
		"listeners.tcp = none",
		fmt.Sprintf("listeners.ssl.default = %d", amqpNumber),
		// Clients authenticate with a password, so request no certificates.
		"ssl_options.verify = verify_none",
		"ssl_options.fail_if_no_peer_cert = false",
		"ssl_options.cacertfile = " + certificateDir + "/" + keyCA,
		"ssl_options.certfile = " + certificateDir + "/" + keyCertificate,
		"ssl_options.keyfile = " + certificateDir + "/" + keyPrivateKey,
	}
}

// rabbitMQDistributionConf returns the TLS options of the connections between the nodes. A node reads a changed
// certificate or CA within minutes.
func rabbitMQDistributionConf() string {
	const (
		files = `{cacertfile, "` + nodesCertificateDir + "/" + keyCA + `"}, {certfile, "` + nodesCertificateDir + "/" + keyCertificate +
			`"}, {keyfile, "` + nodesCertificateDir + "/" + keyPrivateKey + `"}, {verify, verify_peer}`
	)
	return "[{server, [" + files + ", {fail_if_no_peer_cert, true}]},\n {client, [" + files + "]}].\n"
}

// rabbitMQAdvancedConf returns advanced.config. RabbitMQ 3.10 has no keys for these settings in rabbitmq.conf, and
// rejects unknown keys there.
func (b *builder) rabbitMQAdvancedConf() string {
	// RabbitMQ 3.13 and later add members to quorum queues that were declared before all nodes had joined. The nodes
	// look for such queues at the interval below, which is in milliseconds.
	return fmt.Sprintf(`[{rabbit, [
  {quorum_membership_reconciliation_enabled, true},
  {quorum_membership_reconciliation_target_group_size, %d},
  {quorum_membership_reconciliation_interval, 60000}
]}%s].
`, *b.rabbitMQ.Replicas, b.rabbitMQMetricsConf())
}

// rabbitMQMetricsConf enables TLS on the listener for metrics. It does not use the keys prometheus.ssl.*, because
// RabbitMQ 3.10 would keep the listener without TLS.
func (b *builder) rabbitMQMetricsConf() string {
	if b.rabbitMQ.TLS == nil {
		return ""
	}
	return fmt.Sprintf(`,
{rabbitmq_prometheus, [{tcp_config, [
  {port, %d},
  {ssl, true},
  {ssl_opts, [{cacertfile, "%s"}, {certfile, "%s"}, {keyfile, "%s"}]}
]}]}`, rabbitMQMetricsNumber, certificateDir+"/"+keyCA, certificateDir+"/"+keyCertificate, certificateDir+"/"+keyPrivateKey)
}

func (b *builder) rabbitMQNode(pod string) string { return pod + "." + b.host(b.rabbitMQNodes()) }

func (b *builder) rabbitMQNodes() string { return b.name(ComponentRabbitMQ) + "-nodes" }

func (b *builder) rabbitMQResources() corev1.ResourceRequirements {
	return resources(b.rabbitMQ.Resources.Core(), requirements("80m", "512Mi", "1Gi"))
}

func (b *builder) rabbitMQNodesService() client.Object {
	return &corev1.Service{
		ObjectMeta: b.object(b.rabbitMQNodes(), ComponentRabbitMQ),
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone,
			// A node needs the host names of the other nodes to become ready.
			PublishNotReadyAddresses: true,
			Selector:                 Selector(b.sim, ComponentRabbitMQ),
			Ports:                    b.nodePorts(),
		},
	}
}

func (b *builder) nodePorts() []corev1.ServicePort {
	ports := []corev1.ServicePort{servicePort("distribution", distributionNumber)}
	// Open the port of the port mapper daemon (epmd) only without TLS, because epmd does not support TLS; see
	// rabbitMQInterNodeTLS.
	if b.rabbitMQ.TLS == nil {
		ports = append([]corev1.ServicePort{servicePort("epmd", epmdNumber)}, ports...)
	}
	return ports
}

// rabbitMQService returns the Service that clients and Prometheus connect to.
func (b *builder) rabbitMQService() client.Object {
	meta := b.object(b.name(ComponentRabbitMQ), ComponentRabbitMQ)
	meta.Labels[ScrapeLabel] = scrape
	return &corev1.Service{
		ObjectMeta: meta,
		Spec: corev1.ServiceSpec{
			Selector: Selector(b.sim, ComponentRabbitMQ),
			Ports:    []corev1.ServicePort{b.clientPort(ComponentRabbitMQ, portAMQP, amqpNumber), servicePort(portPrometheus, rabbitMQMetricsNumber)},
		},
	}
}

func (b *builder) rabbitMQTemplate() (corev1.PodTemplateSpec, error) {
	volumes := []corev1.Volume{
		b.rabbitMQConfVolume(), secretVolume("cookie", b.name(ComponentRabbitMQ), keyErlangCookie), emptyDir("tmp"),
	}
	if tls := b.rabbitMQ.TLS; tls != nil {
		volumes = append(volumes, b.certificateVolume(ComponentRabbitMQ, tls), certificateVolume("nodes-tls", b.rabbitMQNodes()))
	}
	return b.template(pod{
		component:  ComponentRabbitMQ,
		user:       rabbitMQUser,
		grace:      rabbitMQGrace,
		containers: []corev1.Container{b.rabbitMQContainer()},
		volumes:    volumes,
		patch:      b.rabbitMQ.Template, path: templatePath(ComponentRabbitMQ), main: string(ComponentRabbitMQ),
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

// copyCookie copies the Erlang cookie to a file that only its owner can read, as Erlang requires. A node keeps its
// first cookie, because all nodes need equal cookies and are replaced one by one.
const copyCookie = `set -e
cookie=` + rabbitMQHome + `/.erlang.cookie
if [ -s "$cookie" ]; then source="$cookie"; else source=` + cookieMount + "/" + keyErlangCookie + `; fi
rm -f "$cookie.new"
(umask 377; cat "$source" > "$cookie.new")
mv -f "$cookie.new" "$cookie"
`

func (b *builder) rabbitMQContainer() corev1.Container {
	c := corev1.Container{
		Name:      string(ComponentRabbitMQ),
		Image:     b.rabbitMQImage(),
		Command:   rabbitMQCommand(copyCookie + "exec rabbitmq-server"),
		Env:       b.rabbitMQEnvironment(),
		Ports:     []corev1.ContainerPort{containerPort(portAMQP, amqpNumber), containerPort(portPrometheus, rabbitMQMetricsNumber)},
		Resources: b.rabbitMQResources(),
		VolumeMounts: []corev1.VolumeMount{
			mount(dataVolume, rabbitMQHome), readOnly("cookie", cookieMount), readOnly("config", rabbitMQConf), mount("tmp", "/tmp"),
		},
		// There is no liveness probe, because it would restart a node that waits for another node during its recovery.
		ReadinessProbe: readinessTCP(portAMQP),
	}
	for _, p := range b.nodePorts() {
		c.Ports = append(c.Ports, containerPort(p.Name, p.Port))
	}
	if b.rabbitMQ.TLS != nil {
		c.VolumeMounts = append(c.VolumeMounts, readOnly("tls", certificateDir), readOnly("nodes-tls", nodesCertificateDir))
	}
	if *b.rabbitMQ.Replicas > 1 {
		c.Lifecycle = &corev1.Lifecycle{PostStart: rebalanceLeaders(), PreStop: b.awaitQuorum()}
	}
	return c
}

// rebalanceLeaders returns a postStart hook that spreads the leaders of quorum queues over the nodes. RabbitMQ does not
// move leaders back after a node has stopped.
func rebalanceLeaders() *corev1.LifecycleHandler {
	// The script runs in the background, because the other nodes learn the IP address of the pod only after the hook.
	// It waits 30 s so that replicas catch up.
	//
	// The output goes to the log of the container. If the containers of the pod share a process namespace, the output
	// is discarded.
	const script = `log=/proc/1/fd/1
[ -w "$log" ] || log=/dev/null
(
  until rabbitmqctl await_startup -t 60; do sleep 10; done
  sleep 30
  rabbitmq-queues rebalance quorum
) </dev/null >"$log" 2>&1 &`
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: rabbitMQCommand(script)}}
}

// awaitQuorum returns a preStop hook that waits, at most a minute, until the node can stop without any quorum queue
// losing its majority.
func (b *builder) awaitQuorum() *corev1.LifecycleHandler {
	// If the host names of the nodes do not resolve, the whole cluster is being deleted, so the hook does not wait.
	script := `for _ in 1 2 3 4 5 6; do
  getent hosts ` + b.host(b.rabbitMQNodes()) + ` >/dev/null || exit 0
  rabbitmq-upgrade await_online_quorum_plus_one -t 8 && exit 0
done
exit 0`
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: rabbitMQCommand(script)}}
}

// rabbitMQCommand returns a command line that bypasses Debian's wrapper scripts in /usr/sbin. Only the users root and
// rabbitmq can run them.
func rabbitMQCommand(command string) []string {
	return []string{"sh", "-c", `PATH="/usr/lib/rabbitmq/bin:$PATH"; ` + command}
}

func (b *builder) rabbitMQEnvironment() []corev1.EnvVar {
	node := "rabbit@" + b.rabbitMQNode("$(POD_NAME)")
	// Disable the busy waiting of idle schedulers, so that other pods can use the cores. RabbitMQ's runtime tuning guide
	// recommends this for shared nodes.
	arguments := "+sbwt none +sbwtdcpu none +sbwtdio none"
	var interNode []corev1.EnvVar
	if b.rabbitMQ.TLS != nil {
		var server string
		server, interNode = rabbitMQInterNodeTLS(node)
		arguments += " " + server
	}
	return append([]corev1.EnvVar{
		{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.name"}}},
		{Name: "RABBITMQ_NODENAME", Value: node},
		{Name: "RABBITMQ_USE_LONGNAME", Value: "true"},
		{Name: "RABBITMQ_DIST_PORT", Value: strconv.Itoa(distributionNumber)},
		{Name: "RABBITMQ_CONFIG_FILE", Value: rabbitMQConf + "/rabbitmq"}, // without the extension .conf, which RabbitMQ appends
		{Name: "RABBITMQ_ADVANCED_CONFIG_FILE", Value: rabbitMQConf + "/" + keyAdvancedConf},
		{Name: "RABBITMQ_ENABLED_PLUGINS_FILE", Value: rabbitMQConf + "/" + keyPlugins},
		{Name: "RABBITMQ_MNESIA_BASE", Value: rabbitMQHome + "/mnesia"},
		{Name: "RABBITMQ_LOG_BASE", Value: rabbitMQHome + "/log"},
		{Name: "RABBITMQ_LOGS", Value: "-"},
		{Name: "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", Value: arguments},
		{Name: "HOME", Value: rabbitMQHome},
		{Name: "LANG", Value: "C.UTF-8"},
	}, interNode...)
}

// rabbitMQInterNodeTLS returns Erlang arguments for the node, and environment variables for the node and for tools
// such as rabbitmqctl. They enable TLS between nodes.
//
// The port mapper daemon (epmd) has no TLS. Therefore all nodes use the same fixed port, and epmd listens only on the
// loopback interface.
func rabbitMQInterNodeTLS(node string) (arguments string, environment []corev1.EnvVar) {
	// A TLS handshake can exceed Erlang's default limit of 7 seconds if a node has little CPU.
	const tls = "-kernel net_setuptime 60 -proto_dist inet_tls -ssl_dist_optfile " + rabbitMQConf + "/" + keyDistributionConf
	// Without -name, RabbitMQ would ask epmd at the pod's address for a node of the same name, but epmd does not
	// listen there.
	//
	// If dist_listen occurs twice, Erlang uses the first value. It adds the arguments in ERL_ZFLAGS at the end.
	return tls + " -name " + node + " -dist_listen true", []corev1.EnvVar{
		{Name: "RABBITMQ_CTL_ERL_ARGS", Value: tls},
		// Every command line must contain erl_epmd_port exactly once, even that of a temporary node with which
		// RabbitMQ 4 finds the other nodes. Only the RabbitMQ node may listen on the fixed port.
		{Name: "ERL_ZFLAGS", Value: fmt.Sprintf("-erl_epmd_port %d -dist_listen false", distributionNumber)},
		{Name: "ERL_EPMD_ADDRESS", Value: "127.0.0.1"},
	}
}

// rabbitMQConfVolume returns a volume with the configuration from the ConfigMap and the definition of the user from
// the Secret.
func (b *builder) rabbitMQConfVolume() corev1.Volume {
	name := corev1.LocalObjectReference{Name: b.name(ComponentRabbitMQ)}
	files := []corev1.KeyToPath{
		{Key: keyRabbitMQConf, Path: keyRabbitMQConf}, {Key: keyAdvancedConf, Path: keyAdvancedConf}, {Key: keyPlugins, Path: keyPlugins},
	}
	if b.rabbitMQ.TLS != nil {
		files = append(files, corev1.KeyToPath{Key: keyDistributionConf, Path: keyDistributionConf})
	}
	return corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(secretMode)),
		Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name, Items: files}},
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

// readinessTCP returns a probe with a short period, because the other components become ready only after RabbitMQ is
// ready.
func readinessTCP(port string) *corev1.Probe {
	probe := tcpProbe(port)
	probe.PeriodSeconds, probe.FailureThreshold = readinessPeriod, readinessFailures
	return probe
}

// tcpProbe returns a probe that opens a TCP connection. The probe is for servers that accept no request without a
// login.
func tcpProbe(port string) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString(port)}},
		PeriodSeconds: 5, TimeoutSeconds: probeTimeout, FailureThreshold: 3,
	}
}
