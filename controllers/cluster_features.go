package controllers

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// clusterFeatures remembers which features the cluster has. It is safe for concurrent use, and holds no lock during a
// query.
type clusterFeatures struct {
	// userIDs says whether the cluster assigns user IDs to namespaces. It is nil if this is not known yet.
	userIDs atomic.Pointer[bool]
	// histograms says whether ServiceMonitors support native histograms. It is nil if this is not known yet.
	histograms atomic.Pointer[nativeHistograms]
}

// nativeHistograms caches whether ServiceMonitors support native histograms.
type nativeHistograms struct {
	supported bool
	// expires is when the ServiceMonitor CRD must be read again. The CRD changes when the Prometheus Operator is
	// upgraded.
	expires time.Time
}

// addClusterFeatures sets the input fields that depend on features of the cluster and on the operator's flags.
func (r *Reconciler) addClusterFeatures(ctx context.Context, input *resources.Input) (err error) {
	input.AllowPrivilegedTemplates, input.OperatorPriorityClass = r.options.AllowPrivilegedTemplates, r.options.PriorityClass
	if input.ClusterAssignsUserIDs, err = r.clusterAssignsUserIDs(); err != nil {
		return err
	}
	if !input.Served.ServiceMonitors {
		r.features.histograms.Store(nil)
		return nil
	}
	input.Served.NativeHistograms, err = r.supportsNativeHistograms(ctx)
	return err
}

// clusterAssignsUserIDs reports whether the cluster assigns user IDs to namespaces, as OpenShift does. A cluster
// counts as OpenShift if its API server serves the kind SecurityContextConstraints.
func (r *Reconciler) clusterAssignsUserIDs() (bool, error) {
	if known := r.features.userIDs.Load(); known != nil {
		return *known, nil
	}
	constraints := schema.GroupKind{Group: "security.openshift.io", Kind: "SecurityContextConstraints"}
	_, err := r.client.RESTMapper().RESTMapping(constraints, "v1")
	if err != nil && !meta.IsNoMatchError(err) {
		return false, fmt.Errorf("find out whether the cluster serves %s: %w", constraints, err)
	}
	assigns := err == nil
	r.features.userIDs.Store(&assigns)
	return assigns, nil
}

// supportsNativeHistograms reports whether the ServiceMonitor CRD has the field scrapeNativeHistograms.
func (r *Reconciler) supportsNativeHistograms(ctx context.Context) (bool, error) {
	const valid = 10 * time.Minute
	if known := r.features.histograms.Load(); known != nil && r.now().Before(known.expires) {
		return known.supported, nil
	}
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	kind := resources.ServiceMonitorKind()
	err := r.direct.Get(ctx, client.ObjectKey{Name: "servicemonitors." + kind.Group}, crd)
	if client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("read the definition of %s: %w", kind.Kind, err)
	}
	supported := err == nil && hasSpecField(crd, kind.Version, "scrapeNativeHistograms")
	r.features.histograms.Store(&nativeHistograms{supported: supported, expires: r.now().Add(valid)})
	return supported, nil
}

// hasSpecField reports whether a version of a CRD has a field in its spec.
func hasSpecField(crd *unstructured.Unstructured, version, name string) bool {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		fields, isObject := v.(map[string]any)
		if !isObject || fields["name"] != version {
			continue
		}
		_, found, err := unstructured.NestedMap(fields, "schema", "openAPIV3Schema", "properties", "spec", "properties", name)
		return found && err == nil
	}
	return false
}
