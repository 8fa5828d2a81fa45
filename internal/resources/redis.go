package resources

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Ports of Redis.
const (
	redisNumber        = 6379
	redisMetricsNumber = 9121

	portRedis = "redis"
)

const (
	redisData    = "/data"
	redisConfDir = "/etc/redis"
	keyRedisConf = "redis.conf"

	containerExporter = "exporter"
	exporterDir       = "/run/secrets/exporter"
	// redisGrace is the termination grace period of Redis in seconds. In that time Redis writes its append-only
	// file.
	redisGrace = 60
)

func (b *builder) store() ([]client.Object, error) {
	if b.redis == nil {
		return nil, nil
	}
	secret, err := b.redisSecret()
	if err != nil {
		return nil, err
	}
	template, err := b.redisTemplate()
	if err != nil {
		return nil, err
	}
	conf := b.redisConf(template.Spec)
	return []client.Object{secret, b.redisConfigMap(conf), b.redisService(), b.redisStatefulSet(template, conf)}, nil
}

// redisConfigMap returns the ConfigMap with the configuration of the server. The password is in the Secret.
func (b *builder) redisConfigMap(conf string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: b.object(b.name(ComponentRedis), ComponentRedis),
		Data:       map[string]string{keyRedisConf: conf},
	}
}

// redisConf returns the content of redis.conf. Redis logs every write to its append-only file. When its memory is
// full, it rejects writes and does not evict keys.
func (b *builder) redisConf(spec corev1.PodSpec) string {
	lines := append(b.redisListener(),
		"dir "+redisData,
		"appendonly yes",
		"appendfsync everysec",
		`save ""`,
		"maxmemory-policy noeviction",
		"include "+redisConfDir+"/"+keyAuthConf,
	)
	// Redis may use this percentage of the memory limit for data. The rest is for buffers, and for pages that change
	// during a rewrite of the append-only file.
	const percent = 70
	if limit := memoryShare(spec, string(ComponentRedis), percent); limit > 0 {
		lines = append(lines, fmt.Sprintf("maxmemory %d", limit))
	}
	return strings.Join(lines, "\n") + "\n"
}

func (b *builder) redisListener() []string {
	if b.redis.TLS == nil {
		return []string{fmt.Sprintf("port %d", redisNumber)}
	}
	return []string{
		"port 0",
		fmt.Sprintf("tls-port %d", redisNumber),
		"tls-cert-file " + certificateDir + "/" + keyCertificate,
		"tls-key-file " + certificateDir + "/" + keyPrivateKey,
		"tls-ca-cert-file " + certificateDir + "/" + keyCA,
		// Clients need no certificate, because they authenticate with the password.
		"tls-auth-clients no",
	}
}

// redisResources sets no memory limit by default. The required memory changes with the rates and the lengths of stays,
// and a new limit would restart the server.
func (b *builder) redisResources() corev1.ResourceRequirements {
	defaults := requirements("40m", "256Mi", "256Mi")
	defaults.Limits = nil
	return resources(b.redis.Resources.Core(), defaults)
}

func (b *builder) redisService() client.Object {
	meta := b.object(b.name(ComponentRedis), ComponentRedis)
	ports := []corev1.ServicePort{b.clientPort(ComponentRedis, portRedis, redisNumber)}
	if b.exportsRedis() {
		meta.Labels[ScrapeLabel] = scrape
		ports = append(ports, servicePort(portMetrics, redisMetricsNumber))
	}
	return &corev1.Service{
		ObjectMeta: meta,
		Spec:       corev1.ServiceSpec{Selector: Selector(b.sim, ComponentRedis), Ports: ports},
	}
}

func (b *builder) redisTemplate() (corev1.PodTemplateSpec, error) {
	containers := []corev1.Container{b.redisContainer()}
	volumes := []corev1.Volume{b.redisConfVolume()}
	if b.redis.TLS != nil {
		useTLS(&containers[0])
		volumes = append(volumes, b.certificateVolume(ComponentRedis, b.redis.TLS))
	}
	if b.exportsRedis() {
		containers = append(containers, b.exporterContainer())
		volumes = append(volumes, secretVolume("exporter", b.name(ComponentRedis), keyExporter))
	}
	return b.template(pod{
		component: ComponentRedis, user: redisUser, grace: redisGrace,
		containers: containers, volumes: volumes,
		patch: b.redis.Template, path: templatePath(ComponentRedis), main: string(ComponentRedis),
	})
}

func (b *builder) redisStatefulSet(template corev1.PodTemplateSpec, conf string) client.Object {
	return b.statefulSet(set{
		component: ComponentRedis,
		service:   b.name(ComponentRedis),
		replicas:  1,
		storage:   b.redis.Storage,
		// The server reads its password only at its start, so a new password requires a new pod.
		template: withConfigHash(template, []string{conf, hash(b.Credentials.RedisPassword)}),
	})
}

func (b *builder) redisContainer() corev1.Container {
	// The container reads the password from a file, so that no process list shows it.
	const ping = `REDISCLI_AUTH="$(cat ` + redisConfDir + "/" + keyPassword + `)" redis-cli ping | grep -q PONG`
	return corev1.Container{
		Name:         string(ComponentRedis),
		Image:        b.redisImage(),
		Command:      []string{"redis-server", redisConfDir + "/" + keyRedisConf},
		Ports:        []corev1.ContainerPort{containerPort(portRedis, redisNumber)},
		Resources:    b.redisResources(),
		VolumeMounts: []corev1.VolumeMount{mount(dataVolume, redisData), readOnly("config", redisConfDir)},
		StartupProbe: startupTCP(portRedis),
		// While Redis loads its append-only file, it does not respond with PONG. It is then alive but not ready.
		ReadinessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", ping}}},
			PeriodSeconds: 5, TimeoutSeconds: probeTimeout, FailureThreshold: 3,
		},
		LivenessProbe: livenessTCP(portRedis),
	}
}

// useTLS makes Redis accept only TLS. The probes use redis-cli, because Redis logs a warning about a TCP connection
// that ends before the TLS handshake.
func useTLS(c *corev1.Container) {
	const (
		command = `REDISCLI_AUTH="$(cat ` + redisConfDir + "/" + keyPassword + `)" redis-cli --tls --insecure`
		files   = "tls-cert-file " + certificateDir + "/" + keyCertificate + " tls-key-file " + certificateDir + "/" + keyPrivateKey +
			" tls-ca-cert-file " + certificateDir + "/" + keyCA
		// reload makes the server read its certificate again when the file has changed. It works in the background, and
		// ends with the container. Open connections stay open.
		reload = `(
  while sleep 10; do
    now="$(cat ` + certificateDir + "/" + keyCertificate + " " + certificateDir + "/" + keyCA + `)"
    [ "$now" != "$loaded" ] || continue
    [ "$(` + command + ` CONFIG SET ` + files + `)" = OK ] && loaded="$now"
  done
) </dev/null >/dev/null 2>&1 &`
	)
	answers := func(condition string) corev1.ProbeHandler {
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", command + " ping" + condition}}}
	}
	c.VolumeMounts = append(c.VolumeMounts, readOnly("tls", certificateDir))
	c.ReadinessProbe.ProbeHandler = answers(" | grep -q PONG")
	// Any answer to PING shows that the server is alive, even an error.
	c.StartupProbe.ProbeHandler, c.LivenessProbe.ProbeHandler = answers(" | grep -q ."), answers(" | grep -q .")
	c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sh", "-c", reload}}}}
}

func (b *builder) exporterContainer() corev1.Container {
	env := []corev1.EnvVar{
		{Name: "REDIS_ADDR", Value: b.redisLocalAddress()},
		{Name: "REDIS_PASSWORD_FILE", Value: exporterDir + "/" + keyExporter},
		{Name: "REDIS_EXPORTER_WEB_LISTEN_ADDRESS", Value: fmt.Sprintf(":%d", redisMetricsNumber)},
	}
	mounts := []corev1.VolumeMount{readOnly("exporter", exporterDir)}
	if b.redis.TLS != nil {
		mounts = append(mounts, readOnly("tls", certificateDir))
		env = append(env,
			// The certificate need not be valid for localhost, so the exporter does not verify it. That is safe,
			// because the connection to Redis never leaves the pod.
			corev1.EnvVar{Name: "REDIS_EXPORTER_SKIP_TLS_VERIFICATION", Value: "true"},
			// The exporter reads these files again for each connection, so it needs no restart when the certificate is
			// renewed.
			corev1.EnvVar{Name: "REDIS_EXPORTER_TLS_SERVER_CERT_FILE", Value: certificateDir + "/" + keyCertificate},
			corev1.EnvVar{Name: "REDIS_EXPORTER_TLS_SERVER_KEY_FILE", Value: certificateDir + "/" + keyPrivateKey},
		)
	}
	return corev1.Container{
		Name:         containerExporter,
		Image:        b.Images.RedisExporter,
		Env:          env,
		Ports:        []corev1.ContainerPort{containerPort(portMetrics, redisMetricsNumber)},
		Resources:    requirements("5m", "16Mi", "64Mi"),
		VolumeMounts: mounts,
	}
}

// redisLocalAddress returns the address at which the exporter in the same pod reaches the server.
func (b *builder) redisLocalAddress() string {
	scheme := "redis"
	if b.redis.TLS != nil {
		scheme = "rediss"
	}
	return fmt.Sprintf("%s://localhost:%d", scheme, redisNumber)
}

// redisConfVolume returns a volume with the configuration from the ConfigMap and the password from the Secret.
func (b *builder) redisConfVolume() corev1.Volume {
	name := corev1.LocalObjectReference{Name: b.name(ComponentRedis)}
	return corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(secretMode)),
		Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name, Items: []corev1.KeyToPath{
				{Key: keyRedisConf, Path: keyRedisConf},
			}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: name, Items: []corev1.KeyToPath{
				{Key: keyAuthConf, Path: keyAuthConf}, {Key: keyPassword, Path: keyPassword},
			}}},
		},
	}}}
}

func (b *builder) redisImage() string {
	if b.redis.Image != "" {
		return b.redis.Image
	}
	return b.Images.Redis
}

// exportsRedis reports whether the simulation has a managed Redis whose metrics are exported.
func (b *builder) exportsRedis() bool { return b.redis != nil && b.Images.RedisExporter != "" }

// startupTCP returns a probe that waits until a server accepts connections.
func startupTCP(port string) *corev1.Probe {
	probe := tcpProbe(port)
	probe.PeriodSeconds, probe.FailureThreshold = startupPeriod, startupFailures
	return probe
}

// livenessTCP returns a probe that restarts a server if it accepts no connection for a minute.
func livenessTCP(port string) *corev1.Probe {
	probe := tcpProbe(port)
	probe.PeriodSeconds, probe.FailureThreshold = 20, 3
	return probe
}
