package controllers

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/internal/resources"
)

// clusterFeatures remembers what the API server says about the cluster. It is safe for concurrent use.
type clusterFeatures struct {
	mu sync.Mutex
	// assignsUserIDs is valid once knowsUserIDs is true.
	assignsUserIDs, knowsUserIDs bool
	// nativeHistograms is valid until histogramsExpire.
	nativeHistograms bool
	histogramsExpire time.Time
}

// addClusterFeatures sets the fields of the input that depend on the cluster and on the operator's flags.
func (r *Reconciler) addClusterFeatures(ctx context.Context, input *resources.Input) error {
	input.AllowPrivilegedTemplates = r.options.AllowPrivilegedTemplates
	r.features.mu.Lock()
	defer r.features.mu.Unlock()
	if err := r.readUserIDs(); err != nil {
		return err
	}
	input.ClusterAssignsUserIDs = r.features.assignsUserIDs
	if !input.Served.ServiceMonitors {
		r.features.histogramsExpire = time.Time{}
		return nil
	}
	if err := r.readNativeHistograms(ctx); err != nil {
		return err
	}
	input.Served.NativeHistograms = r.features.nativeHistograms
	return nil
}

// readUserIDs finds out whether the cluster assigns user ids to namespaces: OpenShift serves
// SecurityContextConstraints, and does so.
func (r *Reconciler) readUserIDs() error {
	if r.features.knowsUserIDs {
		return nil
	}
	constraints := schema.GroupKind{Group: "security.openshift.io", Kind: "SecurityContextConstraints"}
	_, err := r.client.RESTMapper().RESTMapping(constraints, "v1")
	if err != nil && !meta.IsNoMatchError(err) {
		return fmt.Errorf("find out whether the cluster serves %s: %w", constraints, err)
	}
	r.features.assignsUserIDs, r.features.knowsUserIDs = err == nil, true
	return nil
}

// readNativeHistograms finds out whether ServiceMonitors have the field scrapeNativeHistograms. It reads their
// definition again after a while, because an upgrade of the Prometheus Operator changes it.
func (r *Reconciler) readNativeHistograms(ctx context.Context) error {
	const valid = 10 * time.Minute
	if now := r.now(); now.Before(r.features.histogramsExpire) {
		return nil
	}
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	kind := resources.ServiceMonitorKind()
	err := r.direct.Get(ctx, client.ObjectKey{Name: "servicemonitors." + kind.Group}, crd)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the definition of %s: %w", kind.Kind, err)
	}
	r.features.nativeHistograms = !apierrors.IsNotFound(err) && hasSpecField(crd, kind.Version, "scrapeNativeHistograms")
	r.features.histogramsExpire = r.now().Add(valid)
	return nil
}

// hasSpecField reports whether a version of a CustomResourceDefinition has a field below spec.
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
