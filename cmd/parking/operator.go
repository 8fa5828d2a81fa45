//go:build !nooperator

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/resources"
)

const operatorHelp = `operator runs the ParkingSimulations of a Kubernetes cluster: it makes the objects that each
one asks for, keeps them true, and says in the status how the simulation fares.

It finds the cluster as kubectl does, or from inside a pod. Several operators may run: one is
elected to work, the others stand by. Metrics are served over TLS, to those alone whom the
API server allows to get the path /metrics.`

const operatorExamples = `  # from a workstation, for one namespace, without metrics
  parking operator --namespaces parking --leader-elect=false --metrics-address 0`

// operatorFlags are the flags of operator.
type operatorFlags struct {
	level           logLevel
	namespaces      []string
	workers         int
	qps             float32
	burst           int
	leaderElect     bool
	leaderNamespace string
	health, metrics string
	metricsCerts    string
	metricsInsecure bool
	pprof           string
	images          resources.Images
	pullPolicy      string
	clusterDomain   string
	cleanupTimeout  time.Duration
	namespace       string
	allowPrivileged bool
}

func (c *cli) operatorCommands() []*cobra.Command {
	f := &operatorFlags{}
	cmd := &cobra.Command{
		Use:                   "operator [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Run the simulations of a Kubernetes cluster",
		Long:                  operatorHelp,
		Example:               operatorExamples,
		GroupID:               groupSimulations,
		Args:                  cobra.NoArgs,
		RunE:                  runs(func(ctx context.Context) error { return c.operator(ctx, f) }),
	}
	f.register(cmd, c.getenv)
	return []*cobra.Command{cmd}
}

func (f *operatorFlags) register(cmd *cobra.Command, getenv func(string) string) {
	flags := cmd.Flags()
	flags.Var(&f.level, "log-level", "least important messages to log: debug, info, warn or error")
	flags.StringSliceVar(&f.namespaces, "namespaces", nil, "`namespaces` to watch, separated by commas (default all)")
	flags.IntVar(&f.workers, "workers", 8, "simulations to reconcile at a time")
	flags.Float32Var(&f.qps, "kube-api-qps", 300, "requests a second to the API server; -1 leaves it to that to hold back")
	flags.IntVar(&f.burst, "kube-api-burst", 600, "requests to the API server that may come at once")
	flags.BoolVar(&f.leaderElect, "leader-elect", true, "work only while elected among several operators")
	flags.StringVar(&f.leaderNamespace, "leader-election-namespace", "", "`namespace` of the election's Lease (default the pod's)")
	flags.StringVar(&f.health, "health-address", ":8081", "`address` at which to serve /healthz and /readyz; 0 for nowhere")
	flags.StringVar(&f.metrics, "metrics-address", ":8443", "`address` at which to serve /metrics; 0 for nowhere")
	flags.StringVar(&f.metricsCerts, "metrics-certificates", "", "`folder` with tls.crt and tls.key for metrics (default self-signed ones)")
	flags.BoolVar(&f.metricsInsecure, "metrics-insecure", false, "serve metrics over HTTP to everybody")
	flags.StringVar(&f.pprof, "pprof-address", "0", "`address` at which to serve profiles of this process; 0 for nowhere")
	flags.DurationVar(&f.cleanupTimeout, "cleanup-timeout", 2*time.Minute, "how long a deleted simulation is kept at most while its queues and keys cannot be removed")
	flags.StringVar(&f.images.Parking, "image", ownImage(), "`image` of generators, processors and summary API: the operator's own")
	flags.StringVar(&f.images.RabbitMQ, "rabbitmq-image", "docker.io/library/rabbitmq:4.1.4", "`image` of managed RabbitMQ servers")
	flags.StringVar(&f.images.Redis, "redis-image", "docker.io/library/redis:8.2.1", "`image` of managed Redis servers")
	flags.StringVar(&f.images.RedisExporter, "redis-exporter-image", "docker.io/oliver006/redis_exporter:v1.66.0", "`image` that exports metrics of managed Redis servers; empty for none")
	flags.StringVar(&f.pullPolicy, "image-pull-policy", "", "Always, IfNotPresent or Never (default what Kubernetes does)")
	flags.StringSliceVar(&f.images.PullSecrets, "image-pull-secrets", nil, "`names` of Secrets, in the simulations' namespaces, to pull images with")
	flags.StringVar(&f.clusterDomain, "cluster-domain", "cluster.local", "the cluster's DNS `domain`")
	flags.BoolVar(&f.allowPrivileged, "allow-privileged-templates", false, "let templates set any field of a pod, such as hostPath volumes and ServiceAccounts")
	flags.StringVar(&f.namespace, "operator-namespace", getenv("POD_NAMESPACE"), "`namespace` that the operator runs in, from which it reads ledgers")
}

// ownImage is the image of this release; of a binary that is none, the latest.
func ownImage() string {
	const repository = "ghcr.io/parking-operator/parking-operator"
	if v := currentBuild().version; regexp.MustCompile(`^v\d+\.\d+\.\d+$`).MatchString(v) {
		return repository + ":" + v
	}
	return repository + ":latest"
}

func (f *operatorFlags) check() error {
	switch corev1.PullPolicy(f.pullPolicy) {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return badInput(fmt.Errorf("--image-pull-policy: %q is not Always, IfNotPresent or Never", f.pullPolicy))
	}
	if f.cleanupTimeout <= 0 {
		return badInput(fmt.Errorf("--cleanup-timeout: %s must be above 0s", f.cleanupTimeout))
	}
	if f.workers < 1 {
		return badInput(fmt.Errorf("--workers: %d must be at least 1", f.workers))
	}
	for _, image := range []struct{ flag, value string }{
		{"image", f.images.Parking}, {"rabbitmq-image", f.images.RabbitMQ}, {"redis-image", f.images.Redis},
	} {
		if strings.TrimSpace(image.value) == "" {
			return badInput(fmt.Errorf("--%s: must name an image", image.flag))
		}
	}
	return nil
}

func (c *cli) operator(ctx context.Context, f *operatorFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	c.saveMemory()
	f.images.PullPolicy = corev1.PullPolicy(f.pullPolicy)
	config, err := ctrl.GetConfig() // before it has a logger, to which it would say a part of its error
	switch {
	case clientcmd.IsEmptyConfig(err):
		if _, err := rest.InClusterConfig(); err != nil && !errors.Is(err, rest.ErrNotInCluster) {
			return badInput(fmt.Errorf("find the cluster of this pod: %w; see that the token of its service account is mounted", err))
		}
		return badInput(errors.New("there is no cluster: name its kubeconfig in KUBECONFIG, or run in a pod"))
	case err != nil:
		return badInput(fmt.Errorf("find the cluster: %w; correct the kubeconfig, or name another in KUBECONFIG", err))
	}
	log := c.logger(f.level.Level)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	config.QPS, config.Burst = f.qps, f.burst
	mgr, err := controllers.NewManager(ctx, config, f.options(log))
	if err != nil {
		return err
	}
	log.Info("starting", "version", currentBuild().version, "namespaces", f.namespaces, "workers", f.workers)
	return mgr.Start(ctx)
}

// saveMemory has garbage collected three times as often as usual. The operator has memory for its caches above all,
// and little to do but at a start, when garbage would double what it needs.
func (c *cli) saveMemory() {
	const percent = 33
	if c.getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

func (f *operatorFlags) options(log *slog.Logger) controllers.ManagerOptions {
	host, _ := os.Hostname() // it only names the holder of the Lease
	metrics := metricsserver.Options{BindAddress: f.metrics, CertDir: f.metricsCerts}
	if !f.metricsInsecure {
		metrics.SecureServing = true
		metrics.FilterProvider = controllers.ProtectMetrics
		metrics.TLSOpts = []func(*tls.Config){func(t *tls.Config) { t.MinVersion = tls.VersionTLS12 }}
	}
	return controllers.ManagerOptions{
		Options: controllers.Options{
			Images: f.images, ClusterDomain: f.clusterDomain, OperatorNamespace: f.namespace, Workers: f.workers,
			CleanupTimeout: f.cleanupTimeout, AllowPrivilegedTemplates: f.allowPrivileged,
		},
		Namespaces: f.namespaces,
		// What the clients have to say of their connections is in conditions; here it would come once for each
		// simulation.
		Backends: controllers.NewBackends(slog.New(slog.DiscardHandler)),
		Logger:   log.With("pod", host),
		Metrics:  ctrlmetrics.Registry,
		Manager: manager.Options{
			LeaderElection: f.leaderElect, LeaderElectionID: "operator.simulation.parking.dev",
			LeaderElectionNamespace:       f.leaderNamespace,
			LeaderElectionReleaseOnCancel: true,
			HealthProbeBindAddress:        f.health,
			PprofBindAddress:              f.pprof,
			Metrics:                       metrics,
		},
	}
}
