//go:build !nooperator

package main

import (
	"cmp"
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
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/flagvalue"
	"github.com/parking-operator/parking-operator/internal/metricsauth"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/wiring"
)

const operatorHelp = `Run the controller for ParkingSimulations in a Kubernetes cluster. It applies the objects
that each simulation needs, repairs them, and reports the state of the simulation in its
status.

It connects to the cluster that the kubeconfig file $KUBECONFIG selects. If KUBECONFIG is not set,
it uses the ServiceAccount of its pod, or ~/.kube/config outside of a pod. With several replicas,
one is elected leader and the others stand by. The operator serves metrics over TLS. Clients need
permission to get the non-resource URL /metrics.`

const operatorExamples = `  # From a workstation, for one namespace, without metrics
  parking operator --namespaces parking --leader-elect=false --metrics-address 0`

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
	cleanupTimeout  flagvalue.Duration
	namespace       string
	allowPrivileged bool
	priorityClass   string
}

func (c *cli) operatorCommands() []*cobra.Command {
	f := &operatorFlags{cleanupTimeout: flagvalue.NewDuration(2 * time.Minute)}
	cmd := &cobra.Command{
		Use:                   "operator [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Run the simulations of a Kubernetes cluster",
		Long:                  operatorHelp,
		Example:               operatorExamples,
		GroupID:               groupSimulations,
		RunE:                  runs(func(ctx context.Context) error { return c.operator(ctx, f) }),
	}
	f.register(cmd, c.getenv)
	return []*cobra.Command{cmd}
}

func (f *operatorFlags) register(cmd *cobra.Command, getenv func(string) string) {
	flags := cmd.Flags()
	flags.Var(&f.level, "log-level", "minimum level of log messages: debug, info, warn or error")
	flags.StringSliceVar(&f.namespaces, "namespaces", nil, "comma-separated `namespaces` to watch (default: all)")
	flags.IntVar(&f.workers, "workers", 8, "`number` of simulations to reconcile at the same time")
	flags.Float32Var(&f.qps, "kube-api-qps", 300, "maximum `number` of requests per second to the API server; -1 disables client-side throttling")
	flags.IntVar(&f.burst, "kube-api-burst", 600, "maximum `number` of requests to the API server in a burst")
	flags.BoolVar(&f.leaderElect, "leader-elect", true, "run the controller only while elected leader")
	flags.StringVar(&f.leaderNamespace, "leader-election-namespace", "", "`namespace` of the Lease for leader election (default: that of the pod)")
	flags.StringVar(&f.health, "health-address", ":8081", "`address` for /healthz and /readyz; 0 disables them")
	flags.StringVar(&f.metrics, "metrics-address", ":8443", "`address` for /metrics; 0 disables it")
	flags.StringVar(&f.metricsCerts, "metrics-certificates", "", "`directory` with tls.crt and tls.key for /metrics (default: a self-signed certificate)")
	flags.BoolVar(&f.metricsInsecure, "metrics-insecure", false, "serve /metrics over HTTP without authorization")
	flags.StringVar(&f.pprof, "pprof-address", "0", "`address` for profiles of this process; 0 disables them")
	flags.Var(&f.cleanupTimeout, "cleanup-timeout", "how long to try to remove the queues and keys of a deleted simulation")
	flags.StringVar(&f.images.Parking, "image", ownImage(), "`image` of generators, processors and the summary API")
	flags.StringVar(&f.images.RabbitMQ, "rabbitmq-image", "docker.io/library/rabbitmq:4.1.4", "`image` of managed RabbitMQ servers")
	flags.StringVar(&f.images.Redis, "redis-image", "docker.io/library/redis:8.2.1", "`image` of managed Redis servers")
	flags.StringVar(&f.images.RedisExporter, "redis-exporter-image", "docker.io/oliver006/redis_exporter:v1.66.0", "`image` that exports the metrics of managed Redis servers; empty disables it")
	flags.StringVar(&f.pullPolicy, "image-pull-policy", "", "pull `policy` of all images: Always, IfNotPresent or Never (default: the default of Kubernetes)")
	_ = cmd.RegisterFlagCompletionFunc("image-pull-policy", cobra.FixedCompletions( // cannot fail, because the flag exists
		[]string{string(corev1.PullAlways), string(corev1.PullIfNotPresent), string(corev1.PullNever)}, cobra.ShellCompDirectiveNoFileComp))
	flags.StringSliceVar(&f.images.PullSecrets, "image-pull-secrets", nil, "comma-separated `names` of the Secrets for pulling images, in the namespace of each simulation")
	flags.StringVar(&f.clusterDomain, "cluster-domain", "cluster.local", "the cluster's DNS `domain`")
	flags.BoolVar(&f.allowPrivileged, "allow-privileged-templates", false, "let templates set any field of a pod, such as hostPath volumes and ServiceAccounts")
	flags.StringVar(&f.priorityClass, "priority-class", "", "priority `class` of the operator's pods; pod templates of simulations must not use it")
	flags.StringVar(&f.namespace, "operator-namespace", getenv("POD_NAMESPACE"), "`namespace` of the operator's pods; network policies of simulations allow connections from this namespace")
}

// ownImage returns the container image of the release that this binary belongs to. If the binary does not belong to
// a release, it returns the latest image.
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
		return badInput(fmt.Errorf("--image-pull-policy: must be Always, IfNotPresent or Never, got %q", f.pullPolicy))
	}
	if f.cleanupTimeout.Duration <= 0 {
		return badInput(fmt.Errorf("--cleanup-timeout: must be above 0s, got %s", f.cleanupTimeout))
	}
	if f.workers < 1 {
		return badInput(fmt.Errorf("--workers: must be at least 1, got %d", f.workers))
	}
	for _, image := range []struct{ flag, value string }{
		{"image", f.images.Parking}, {"rabbitmq-image", f.images.RabbitMQ}, {"redis-image", f.images.Redis},
	} {
		if strings.TrimSpace(image.value) == "" {
			return badInput(fmt.Errorf("--%s: must not be empty", image.flag))
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
	// After SetLogger, GetConfig would also log a part of the error that this command prints.
	config, err := ctrl.GetConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		if _, err := rest.InClusterConfig(); err != nil && !errors.Is(err, rest.ErrNotInCluster) {
			return badInput(fmt.Errorf("find the API server of this pod's cluster: %w; check that the token of the pod's service account is mounted", err))
		}
		return badInput(errors.New("no cluster is configured: set KUBECONFIG to a kubeconfig file, or run in a pod"))
	case err != nil:
		return badInput(fmt.Errorf("read the kubeconfig: %w; correct the file, or set KUBECONFIG to another one", err))
	}
	log := c.logger(f.level.Level)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	config.QPS, config.Burst = f.qps, f.burst
	options := f.options(log)
	if options.Manager.LeaderElectionResourceLockInterface, err = f.podLock(config, c.getenv("POD_NAME")); err != nil {
		return fmt.Errorf("prepare leader election: %w", err)
	}
	mgr, err := controllers.NewManager(ctx, config, options)
	if err != nil {
		return err
	}
	log.Info("Starting", "version", currentBuild().version, "namespaces", f.namespaces, "workers", f.workers)
	return mgr.Start(ctx)
}

// saveMemory makes garbage collection run three times as often. Otherwise, garbage would double the memory at startup.
func (c *cli) saveMemory() {
	const percent = 33
	if c.getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// leaderElectionID is the name of the Lease for leader election.
const leaderElectionID = "operator.simulation.parking.dev"

const (
	// Another replica takes the Lease after leaseDuration if the leader could not release it, for example because its
	// node failed.
	leaseDuration = 60 * time.Second
	// A leader exits if it cannot renew its Lease within renewDeadline. A restart of the API server may take this long.
	renewDeadline = 45 * time.Second
	retryPeriod   = 5 * time.Second
)

// podLock returns a lock for leader election. It returns nil if leader election is disabled, or if the name or the
// namespace of the pod is unknown. In the latter case, the manager uses a random identity.
func (f *operatorFlags) podLock(config *rest.Config, pod string) (resourcelock.Interface, error) {
	namespace := cmp.Or(f.leaderNamespace, f.namespace)
	if !f.leaderElect || pod == "" || namespace == "" {
		return nil, nil
	}
	// A restarted container keeps the name of its pod, and so its Lease. Two processes never have the same name at the
	// same time.
	return resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, leaderElectionID,
		resourcelock.ResourceLockConfig{Identity: pod}, rest.AddUserAgent(config, "leader-election"), renewDeadline)
}

func (f *operatorFlags) options(log *slog.Logger) controllers.ManagerOptions {
	host, _ := os.Hostname() // ignore the error: the host name only appears in the log
	metrics := metricsserver.Options{BindAddress: f.metrics, CertDir: f.metricsCerts}
	if !f.metricsInsecure {
		metrics.SecureServing = true
		metrics.FilterProvider = metricsauth.Filter
		metrics.TLSOpts = []func(*tls.Config){func(t *tls.Config) { t.MinVersion = tls.VersionTLS12 }}
	}
	return controllers.ManagerOptions{
		Options: controllers.Options{
			Version: currentBuild().String(), Images: f.images, ClusterDomain: f.clusterDomain, OperatorNamespace: f.namespace, Workers: f.workers,
			CleanupTimeout: f.cleanupTimeout.Duration, AllowPrivilegedTemplates: f.allowPrivileged, PriorityClass: f.priorityClass,
		},
		Namespaces: f.namespaces,
		// Discard the logs of the RabbitMQ and Redis clients. The conditions of each simulation report whether its
		// servers are reachable.
		Servers:   wiring.Servers{Options: wiring.Options{Component: "parking operator", Logger: slog.New(slog.DiscardHandler)}},
		Summaries: observer.NewHTTPClient(resources.HTTPPort),
		Logger:    log.With("pod", host),
		Metrics:   ctrlmetrics.Registry,
		Manager: manager.Options{
			LeaderElection: f.leaderElect, LeaderElectionID: leaderElectionID,
			LeaderElectionNamespace:       f.leaderNamespace,
			LeaderElectionReleaseOnCancel: true,
			LeaseDuration:                 new(leaseDuration),
			RenewDeadline:                 new(renewDeadline),
			RetryPeriod:                   new(retryPeriod),
			HealthProbeBindAddress:        f.health,
			PprofBindAddress:              f.pprof,
			Metrics:                       metrics,
		},
	}
}
