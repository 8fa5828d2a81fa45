package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// ManagerOptions say how the operator runs.
type ManagerOptions struct {
	Options

	// Namespaces are those whose simulations are run; none means all.
	Namespaces []string
	// Backends connects to the servers of simulations.
	Backends Backends
	// Logger takes what administrators are to know.
	Logger *slog.Logger
	// Metrics takes the metrics of simulations; nil means that they are not exported.
	Metrics prometheus.Registerer
	// Manager holds the options of the manager that these do not decide: leader election, metrics, probes.
	Manager manager.Options
}

// NewScheme returns the scheme of everything that the operator reads and writes.
func NewScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register the kinds of the API: %w", err)
		}
	}
	return scheme, nil
}

// NewManager returns a manager that runs the controller of simulations.
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
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	others, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: scheme, Mapper: mgr.GetRESTMapper(),
		DefaultNamespaces: namespaces(o.Namespaces), DefaultTransform: keepName,
	})
	if err != nil {
		return nil, fmt.Errorf("make the cache of others' objects: %w", err)
	}
	ledgers, cleaner := NewLedgerReader(o.Backends), NewCleaner(o.Backends)
	for _, runnable := range []manager.Runnable{others, ledgers, cleaner} {
		if err := mgr.Add(runnable); err != nil {
			return nil, fmt.Errorf("add %T to the manager: %w", runnable, err)
		}
	}
	r := NewReconciler(o.Options, Dependencies{
		Client: mgr.GetClient(), Direct: mgr.GetAPIReader(), Events: mgr.GetEventRecorder("parking-operator"),
		Ledgers: ledgers, Cleaner: cleaner,
	})
	if err := r.SetupWithManager(ctx, mgr, others); err != nil {
		return nil, err
	}
	if o.Metrics != nil {
		if err := o.Metrics.Register(NewSimulationMetrics(mgr.GetClient(), ledgers)); err != nil {
			return nil, fmt.Errorf("register the metrics of simulations: %w", err)
		}
	}
	return mgr, addProbes(mgr)
}

// addProbes has the manager say that it lives, and that its caches are filled.
func addProbes(mgr ctrl.Manager) error {
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("add the health check: %w", err)
	}
	synced := func(r *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(r.Context()) {
			return errors.New("the caches are not filled yet")
		}
		return nil
	}
	if err := mgr.AddReadyzCheck("caches", synced); err != nil {
		return fmt.Errorf("add the readiness check: %w", err)
	}
	return nil
}

// cacheOptions has only objects of simulations cached, and of these only what is looked at.
func cacheOptions(watched []string) (cache.Options, error) {
	owned, err := labels.NewRequirement(resources.SimulationLabel, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, fmt.Errorf("select the objects of simulations: %w", err)
	}
	return cache.Options{
		DefaultNamespaces:    namespaces(watched),
		DefaultLabelSelector: labels.NewSelector().Add(*owned),
		DefaultTransform:     slim(apply.NewSlimmer()),
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

// slim returns the transform of the cache of children and pods. Whether a child is as it was applied shows in
// its metadata; beyond that the operator reads the status of workloads, the passwords in Secrets, and what pods
// say. Of everything else, above all of pod templates, a thousand simulations would fill hundreds of MiB.
func slim(slimmer *apply.Slimmer) toolscache.TransformFunc {
	return func(object any) (any, error) {
		switch o := object.(type) {
		case *corev1.Pod:
			o.ManagedFields = nil
			o.Spec = corev1.PodSpec{NodeName: o.Spec.NodeName}
		case *corev1.Secret:
			*o = corev1.Secret{ObjectMeta: slimmer.Metadata(o), Data: o.Data}
		case *appsv1.Deployment:
			*o = appsv1.Deployment{ObjectMeta: slimmer.Metadata(o), Status: o.Status}
		case *appsv1.StatefulSet:
			*o = appsv1.StatefulSet{ObjectMeta: slimmer.Metadata(o), Status: o.Status}
		case *corev1.ServiceAccount:
			*o = corev1.ServiceAccount{ObjectMeta: slimmer.Metadata(o)}
		case *networkingv1.NetworkPolicy:
			*o = networkingv1.NetworkPolicy{ObjectMeta: slimmer.Metadata(o)}
		case *corev1.ConfigMap:
			*o = corev1.ConfigMap{ObjectMeta: slimmer.Metadata(o)}
		case *corev1.Service:
			*o = corev1.Service{ObjectMeta: slimmer.Metadata(o)}
		case *policyv1.PodDisruptionBudget:
			*o = policyv1.PodDisruptionBudget{ObjectMeta: slimmer.Metadata(o)}
		case *unstructured.Unstructured:
			metadata := slimmer.Metadata(o)
			content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&metadata)
			if err != nil {
				return nil, fmt.Errorf("slim %s %s: %w", o.GetKind(), client.ObjectKeyFromObject(o), err)
			}
			o.Object = map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": content}
		}
		return object, nil
	}
}

// keepName keeps of another's object its name alone; of a RabbitmqCluster, too, as it is read anew.
func keepName(object any) (any, error) {
	switch o := object.(type) {
	case *metav1.PartialObjectMetadata:
		o.ObjectMeta = metav1.ObjectMeta{
			Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion, DeletionTimestamp: o.DeletionTimestamp,
		}
	case *unstructured.Unstructured:
		slim := map[string]any{"apiVersion": o.GetAPIVersion(), "kind": o.GetKind(), "metadata": map[string]any{
			"name": o.GetName(), "namespace": o.GetNamespace(), "uid": string(o.GetUID()), "resourceVersion": o.GetResourceVersion(),
		}}
		o.Object = slim
	}
	return object, nil
}
