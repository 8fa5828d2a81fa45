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

// childKind describes a kind of object that simulations own.
type childKind struct {
	schema.GroupVersionKind

	// object is an empty object of the Go type that the cache uses for this kind. newList returns an empty list of such
	// objects.
	object  client.Object
	newList func() client.ObjectList
	// keep drops what the operator does not use before the cache stores an object. Otherwise, the pod templates of a
	// thousand simulations would occupy hundreds of MiB.
	keep func(slim metav1.ObjectMeta, o client.Object) error
	// crd is the name of the CustomResourceDefinition that defines an optional kind. It is "" for a kind that every
	// cluster serves.
	crd string
}

// childKinds lists the kinds that the operator caches, watches and prunes. It must contain every kind of object that
// package resources builds.
func childKinds() []childKind {
	return []childKind{
		metadataOnly(corev1.SchemeGroupVersion.WithKind("ServiceAccount")),
		metadataOnly(networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy")),
		// The cache keeps the data of Secrets, because the operator reads the passwords of managed servers from the
		// cache.
		builtIn(corev1.SchemeGroupVersion, func() client.ObjectList { return &corev1.SecretList{} },
			func(m metav1.ObjectMeta, o *corev1.Secret) { *o = corev1.Secret{ObjectMeta: m, Data: o.Data} }),
		metadataOnly(corev1.SchemeGroupVersion.WithKind("ConfigMap")),
		metadataOnly(corev1.SchemeGroupVersion.WithKind("Service")),
		// Keep the existing replicas, mounted Secrets and volume sizes. The operator needs them while it cannot apply
		// the desired values.
		builtIn(appsv1.SchemeGroupVersion, func() client.ObjectList { return &appsv1.StatefulSetList{} },
			func(m metav1.ObjectMeta, o *appsv1.StatefulSet) {
				spec := appsv1.StatefulSetSpec{
					Replicas: o.Spec.Replicas, Template: secretsOnly(o.Spec.Template), VolumeClaimTemplates: sizesOnly(o.Spec.VolumeClaimTemplates),
				}
				*o = appsv1.StatefulSet{ObjectMeta: m, Spec: spec, Status: o.Status}
			}),
		builtIn(appsv1.SchemeGroupVersion, func() client.ObjectList { return &appsv1.DeploymentList{} },
			func(m metav1.ObjectMeta, o *appsv1.Deployment) {
				spec := appsv1.DeploymentSpec{Replicas: o.Spec.Replicas, Template: secretsOnly(o.Spec.Template)}
				*o = appsv1.Deployment{ObjectMeta: m, Spec: spec, Status: o.Status}
			}),
		metadataOnly(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget")),
		optional(resources.ServiceMonitorKind(), "servicemonitors.monitoring.coreos.com"),
		optional(resources.PrometheusRuleKind(), "prometheusrules.monitoring.coreos.com"),
	}
}

// sizesOnly returns claim templates with only their names and the requested sizes.
func sizesOnly(templates []corev1.PersistentVolumeClaim) []corev1.PersistentVolumeClaim {
	var reduced []corev1.PersistentVolumeClaim
	for i := range templates {
		claim := corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: templates[i].Name}}
		claim.Spec.Resources.Requests = templates[i].Spec.Resources.Requests
		reduced = append(reduced, claim)
	}
	return reduced
}

// secretsOnly reduces a pod template to the names of the Secrets that the pods mount.
func secretsOnly(template corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	var reduced corev1.PodTemplateSpec
	for i := range template.Spec.Volumes {
		if secret := template.Spec.Volumes[i].Secret; secret != nil {
			source := corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret.SecretName}}
			reduced.Spec.Volumes = append(reduced.Spec.Volumes, corev1.Volume{VolumeSource: source})
		}
	}
	return reduced
}

// builtIn describes a kind that every cluster serves.
func builtIn[T any, O interface {
	*T
	client.Object
}](version schema.GroupVersion, newList func() client.ObjectList, keep func(metav1.ObjectMeta, O)) childKind {
	return childKind{
		GroupVersionKind: version.WithKind(reflect.TypeFor[T]().Name()),
		object:           O(new(T)),
		newList:          newList,
		keep:             typed(keep),
	}
}

// typed converts a function for objects of one Go type to a function for any object. The returned function fails if the
// object has another type.
func typed[O client.Object](keep func(metav1.ObjectMeta, O)) func(metav1.ObjectMeta, client.Object) error {
	return func(slim metav1.ObjectMeta, o client.Object) error {
		object, ok := o.(O)
		if !ok {
			return fmt.Errorf("remove the unused fields of %T: it is not a %T", o, object)
		}
		keep(slim, object)
		return nil
	}
}

// metadataOnly describes a kind that every cluster serves. The operator uses only the metadata of its objects, so the
// API server sends nothing else to the cache.
func metadataOnly(kind schema.GroupVersionKind) childKind {
	return childKind{
		GroupVersionKind: kind,
		object:           partial(kind),
		newList: func() client.ObjectList {
			list := &metav1.PartialObjectMetadataList{}
			list.SetGroupVersionKind(kind)
			return list
		},
		keep: typed(func(m metav1.ObjectMeta, o *metav1.PartialObjectMetadata) { o.ObjectMeta = m }),
	}
}

// optional describes a kind that a third-party CustomResourceDefinition defines.
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

// keepUnstructured handles objects that have no Go type. It keeps only the API version, the kind and the given
// metadata.
func keepUnstructured(slim metav1.ObjectMeta, o client.Object) error {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("remove the unused fields of %T: want *unstructured.Unstructured", o)
	}
	metadata, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&slim)
	if err != nil {
		return fmt.Errorf("remove the unused fields of %s %s: %w", u.GetKind(), client.ObjectKeyFromObject(u), err)
	}
	u.Object = map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "metadata": metadata}
	return nil
}

func unstructuredOf(kind schema.GroupVersionKind) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	return o
}

// reduce returns a function that removes unused fields before the cache stores an object. It fails for unknown types.
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
			return nil, fmt.Errorf("remove the unused fields of %T: childKinds does not contain its kind", object)
		}
		return o, reduceType(slimmer.Metadata(o), o)
	}
}

const crdRabbitmqClusters = "rabbitmqclusters.rabbitmq.com"

// optionalKinds maps the names of optional CustomResourceDefinitions to the kinds that they define.
func optionalKinds() map[string]schema.GroupVersionKind {
	kinds := map[string]schema.GroupVersionKind{crdRabbitmqClusters: resources.RabbitmqClusterKind()}
	for _, kind := range childKinds() {
		if kind.crd != "" {
			kinds[kind.crd] = kind.GroupVersionKind
		}
	}
	return kinds
}

// served is the set of optional kinds that the API server serves.
type served map[schema.GroupVersionKind]bool

// serves reports whether the API server serves the given kind. A kind without a CRD is built into every API server.
func (s served) serves(kind childKind) bool { return kind.crd == "" || s[kind.GroupVersionKind] }

func (s served) input() resources.Served {
	return resources.Served{ServiceMonitors: s[resources.ServiceMonitorKind()], PrometheusRules: s[resources.PrometheusRuleKind()]}
}

// isOptionalKind reports whether a kind is defined by an optional CustomResourceDefinition.
func isOptionalKind(kind string) bool {
	for _, gvk := range optionalKinds() {
		if gvk.Kind == kind {
			return true
		}
	}
	return false
}

// servedKinds records which optional kinds the API server serves. It is safe for concurrent use.
type servedKinds struct {
	mu    sync.RWMutex
	kinds served
}

func newServedKinds() *servedKinds { return &servedKinds{kinds: served{}} }

// set stores whether the API server serves a kind. It returns true if the stored value has changed.
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
