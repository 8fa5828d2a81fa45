package controllers

import (
	"fmt"
	"maps"
	"reflect"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/apply"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// childKind is a kind of object that simulations own.
type childKind struct {
	schema.GroupVersionKind

	// object and newList have the Go types that the cache holds.
	object  client.Object
	newList func() client.ObjectList
	// keep reduces an object to what the operator reads of it. Of pod templates alone, a thousand simulations
	// would fill hundreds of MiB of the cache.
	keep func(slim metav1.ObjectMeta, o client.Object) error
	// crd is the name of the CustomResourceDefinition of an optional kind; "" for a kind that every cluster
	// serves.
	crd string
}

// childKinds is the table of the kinds that simulations own. A kind that internal/resources builds has to be
// listed here: it is then cached, watched, and pruned.
func childKinds() []childKind {
	return []childKind{
		builtIn(corev1.SchemeGroupVersion, func() client.ObjectList { return &corev1.ServiceAccountList{} },
			func(m metav1.ObjectMeta, o *corev1.ServiceAccount) { *o = corev1.ServiceAccount{ObjectMeta: m} }),
		builtIn(networkingv1.SchemeGroupVersion, func() client.ObjectList { return &networkingv1.NetworkPolicyList{} },
			func(m metav1.ObjectMeta, o *networkingv1.NetworkPolicy) {
				*o = networkingv1.NetworkPolicy{ObjectMeta: m}
			}),
		// Passwords of managed servers are read back from their Secrets.
		builtIn(corev1.SchemeGroupVersion, func() client.ObjectList { return &corev1.SecretList{} },
			func(m metav1.ObjectMeta, o *corev1.Secret) { *o = corev1.Secret{ObjectMeta: m, Data: o.Data} }),
		builtIn(corev1.SchemeGroupVersion, func() client.ObjectList { return &corev1.ConfigMapList{} },
			func(m metav1.ObjectMeta, o *corev1.ConfigMap) { *o = corev1.ConfigMap{ObjectMeta: m} }),
		builtIn(corev1.SchemeGroupVersion, func() client.ObjectList { return &corev1.ServiceList{} },
			func(m metav1.ObjectMeta, o *corev1.Service) { *o = corev1.Service{ObjectMeta: m} }),
		// Conditions are computed from the status of workloads.
		builtIn(appsv1.SchemeGroupVersion, func() client.ObjectList { return &appsv1.StatefulSetList{} },
			func(m metav1.ObjectMeta, o *appsv1.StatefulSet) {
				*o = appsv1.StatefulSet{ObjectMeta: m, Status: o.Status}
			}),
		builtIn(appsv1.SchemeGroupVersion, func() client.ObjectList { return &appsv1.DeploymentList{} },
			func(m metav1.ObjectMeta, o *appsv1.Deployment) {
				*o = appsv1.Deployment{ObjectMeta: m, Status: o.Status}
			}),
		builtIn(policyv1.SchemeGroupVersion, func() client.ObjectList { return &policyv1.PodDisruptionBudgetList{} },
			func(m metav1.ObjectMeta, o *policyv1.PodDisruptionBudget) {
				*o = policyv1.PodDisruptionBudget{ObjectMeta: m}
			}),
		optional(resources.ServiceMonitorKind(), "servicemonitors.monitoring.coreos.com"),
		optional(resources.PrometheusRuleKind(), "prometheusrules.monitoring.coreos.com"),
	}
}

// builtIn returns the entry of a kind that every cluster serves.
func builtIn[T any, O interface {
	*T
	client.Object
}](version schema.GroupVersion, newList func() client.ObjectList, keep func(metav1.ObjectMeta, O)) childKind {
	object := O(new(T))
	return childKind{
		GroupVersionKind: version.WithKind(reflect.TypeFor[T]().Name()),
		object:           object,
		newList:          newList,
		keep: func(slim metav1.ObjectMeta, o client.Object) error {
			typed, ok := o.(O)
			if !ok {
				return fmt.Errorf("reduce %T for the cache: it is not a %T", o, object)
			}
			keep(slim, typed)
			return nil
		},
	}
}

// optional returns the entry of a kind that a third-party CustomResourceDefinition defines.
func optional(kind schema.GroupVersionKind, crd string) childKind {
	return childKind{
		GroupVersionKind: kind,
		object:           unstructuredOf(kind),
		newList: func() client.ObjectList {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(kind)
			return list
		},
		keep: keepUnstructured,
		crd:  crd,
	}
}

// keepUnstructured reduces an object without a Go type to its slim metadata.
func keepUnstructured(slim metav1.ObjectMeta, o client.Object) error {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("reduce %T for the cache: it is not unstructured", o)
	}
	metadata, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&slim)
	if err != nil {
		return fmt.Errorf("reduce %s %s for the cache: %w", u.GetKind(), client.ObjectKeyFromObject(u), err)
	}
	u.Object = map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "metadata": metadata}
	return nil
}

func unstructuredOf(kind schema.GroupVersionKind) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	return o
}

// reduce returns the transform of the cache of children and pods. It fails on a type that is not in childKinds.
func reduce(slimmer *apply.Slimmer) toolscache.TransformFunc {
	keep := map[reflect.Type]func(metav1.ObjectMeta, client.Object) error{}
	for _, kind := range childKinds() {
		keep[reflect.TypeOf(kind.object)] = kind.keep
	}
	return func(object any) (any, error) {
		if pod, ok := object.(*corev1.Pod); ok {
			pod.ManagedFields = nil
			pod.Spec = corev1.PodSpec{NodeName: pod.Spec.NodeName}
			return pod, nil
		}
		o, isObject := object.(client.Object)
		reduceType, ok := keep[reflect.TypeOf(object)]
		if !isObject || !ok {
			return nil, fmt.Errorf("reduce %T for the cache: add its kind to childKinds", object)
		}
		return o, reduceType(slimmer.Metadata(o), o)
	}
}

// crdRabbitmqClusters is the name of the CustomResourceDefinition of the RabbitMQ Cluster Operator.
const crdRabbitmqClusters = "rabbitmqclusters.rabbitmq.com"

// rabbitmqClusters is the kind of the RabbitMQ Cluster Operator. Simulations refer to such objects and do not
// own them.
func rabbitmqClusters() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "rabbitmq.com", Version: "v1beta1", Kind: "RabbitmqCluster"}
}

// optionalKinds returns the kinds of optional CustomResourceDefinitions by the name of these.
func optionalKinds() map[string]schema.GroupVersionKind {
	kinds := map[string]schema.GroupVersionKind{crdRabbitmqClusters: rabbitmqClusters()}
	for _, kind := range childKinds() {
		if kind.crd != "" {
			kinds[kind.crd] = kind.GroupVersionKind
		}
	}
	return kinds
}

// served is the set of optional kinds that the cluster serves.
type served map[schema.GroupVersionKind]bool

// serves reports whether the cluster serves a kind of child.
func (s served) serves(kind childKind) bool { return kind.crd == "" || s[kind.GroupVersionKind] }

func (s served) input() resources.Served {
	return resources.Served{ServiceMonitors: s[resources.ServiceMonitorKind()], PrometheusRules: s[resources.PrometheusRuleKind()]}
}

// isOptionalKind reports whether an optional CustomResourceDefinition defines a kind.
func isOptionalKind(kind string) bool {
	for _, gvk := range optionalKinds() {
		if gvk.Kind == kind {
			return true
		}
	}
	return false
}

// servedKinds records which optional kinds are served. It is safe for concurrent use.
type servedKinds struct {
	mu    sync.RWMutex
	kinds served
}

func newServedKinds() *servedKinds { return &servedKinds{kinds: served{}} }

// set records whether a kind is served, and reports whether that is a change.
func (k *servedKinds) set(kind schema.GroupVersionKind, isServed bool) (changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	changed = k.kinds[kind] != isServed
	k.kinds[kind] = isServed
	return changed
}

func (k *servedKinds) snapshot() served {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return maps.Clone(k.kinds)
}
