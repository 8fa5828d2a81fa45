package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/cleanup"
	"github.com/parking-operator/parking-operator/internal/observer"
	"github.com/parking-operator/parking-operator/internal/podhttp"
	"github.com/parking-operator/parking-operator/internal/rehearsal"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// ManagerOptions configure the operator.
type ManagerOptions struct {
	Options

	// Namespaces are the namespaces to watch. If the list is empty, the operator watches all namespaces.
	Namespaces []string
	// Servers opens clients for the servers of simulations.
	Servers observer.Servers
	// Summaries sends requests to the summary APIs of simulations.
	Summaries SummaryAPIs
	// Logger receives the operator's log.
	Logger *slog.Logger
	// Metrics is the registry for the metrics of simulations. If it is nil, these metrics are not exported.
	Metrics prometheus.Registerer
	// Manager configures leader election, the metrics server and the probes.
	Manager manager.Options
}

// SummaryAPIs sends requests to the summary APIs in the pods of simulations.
type SummaryAPIs interface {
	observer.SummaryCounter
	// DatabaseFailure returns why the summary API in a pod cannot use its database. It returns "" if the pod does not
	// answer, or can use the database.
	DatabaseFailure(ctx context.Context, pod podhttp.Server) string
}

// NewScheme returns a scheme with all kinds that the operator reads or writes.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register API kinds: %w", err)
		}
	}
	return scheme, nil
}

// NewManager returns a manager that runs the controller of ParkingSimulations.
func NewManager(ctx context.Context, config *rest.Config, o ManagerOptions) (ctrl.Manager, error) {
	scheme, err := NewScheme()
	if err != nil {
		return nil, err
	}
	o.Manager.Scheme = scheme
	o.Manager.Logger = logr.FromSlogHandler(o.Logger.Handler())
	if o.Manager.Cache, err = cacheOptions(o.Namespaces); err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, o.Manager)
	if err != nil {
		return nil, fmt.Errorf("create the manager: %w", err)
	}
	referenced, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: scheme, Mapper: mgr.GetRESTMapper(),
		DefaultNamespaces: namespaces(o.Namespaces), DefaultTransform: reduceToName,
	})
	if err != nil {
		return nil, fmt.Errorf("create the cache of referenced objects: %w", err)
	}
	watcher, cleaner := observer.New(observer.Dependencies{Servers: o.Servers, Summaries: o.Summaries}), cleanup.New(o.Servers)
	core, err := corev1client.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("create the client for pods: %w", err)
	}
	recorder := mgr.GetEventRecorder("parking-operator")
	rehearsals := rehearsal.New(rehearsal.Dependencies{
		Client: mgr.GetClient(), Direct: mgr.GetAPIReader(), Core: core.RESTClient(),
		Changed: faultEvents(recorder), Logger: o.Logger,
	})
	for _, runnable := range []manager.Runnable{referenced, watcher, cleaner, rehearsals} {
		if err := mgr.Add(runnable); err != nil {
			return nil, fmt.Errorf("add %T to the manager: %w", runnable, err)
		}
	}
	r := NewReconciler(o.Options, Dependencies{
		Client: mgr.GetClient(), Direct: mgr.GetAPIReader(), Events: recorder,
		Observer: watcher, Rehearsals: rehearsals, Cleaner: cleaner, SummaryAPIs: o.Summaries, ClusterVersion: clusterVersion(mgr),
	})
	if err := r.SetupWithManager(ctx, mgr, referenced); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		if err := o.Metrics.Register(NewSimulationMetrics(mgr.GetClient(), watcher)); err != nil {
			return nil, fmt.Errorf("register the metrics of simulations: %w", err)
		}
	}
	return mgr, addProbes(mgr)
}

// clusterVersion returns a function that reads the Kubernetes version from the API server.
func clusterVersion(mgr ctrl.Manager) func(context.Context) string {
	return func(ctx context.Context) string {
		api, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
		if err != nil {
			return ""
		}
		version, err := api.ServerVersionWithContext(ctx)
		if err != nil {
			return ""
		}
		return version.GitVersion
	}
}

// addProbes adds a liveness check and a readiness check. The readiness check fails until the caches have synced.
func addProbes(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the health check: %w", err)
	}
	synced := func(r *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(r.Context()) {
			return errors.New("the caches have not synced yet")
		}
		return nil
	}
	if err := mgr.AddReadyzCheck("caches", synced); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	return nil
}

// cacheOptions limits the cache to simulations, their objects and their pods, and to the fields that the operator
// reads.
func cacheOptions(watched []string) (cache.Options, error) {
	owned, err := labels.NewRequirement(resources.SimulationLabel, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("build the label selector of the cache: %w", err)
	}
	return cache.Options{
		DefaultNamespaces:    namespaces(watched),
		DefaultLabelSelector: labels.NewSelector().Add(*owned),
		DefaultTransform:     reduce(apply.NewSlimmer()),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.ParkingSimulation{}: {Label: labels.Everything(), Transform: cache.TransformStripManagedFields()},
		},
	}, nil
}

func namespaces(names []string) map[string]cache.Config {
	if len(names) == 0 {
		return nil
	}
	configs := map[string]cache.Config{}
	for _, name := range names {
		configs[name] = cache.Config{}
	}
	return configs
}

// reduceToName removes everything but the name and the resource version from an object to which simulations refer.
// The operator reads the content from the API server when needed.
func reduceToName(object any) (any, error) {
	switch o := object.(type) {
	case *metav1.PartialObjectMetadata:
		o.ObjectMeta = metav1.ObjectMeta{
			Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion, DeletionTimestamp: o.DeletionTimestamp,
		}
	case *unstructured.Unstructured:
		o.Object = map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": map[string]any{
			"name": o.GetName(), "namespace": o.GetNamespace(), "uid": string(o.GetUID()), "resourceVersion": o.GetResourceVersion(),
		}}
	}
	return object, nil
}
