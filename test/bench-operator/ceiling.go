package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// workers is the number of goroutines that send requests in measureServer. The operator has the same number of
	// workers by default.
	workers = 8
	// maxCopies is the maximum number of simulations whose child objects measureServer creates per kind of request.
	maxCopies = 200
)

// measureServer measures how many children per second the API server creates without an operator: with create
// requests, and with server-side apply, as the operator does.
func (b *bench) measureServer(ctx context.Context, r *report) error {
	progress("measure the API server alone")
	children, err := b.readChildren(ctx)
	if err != nil {
		return err
	}
	create := func(ctx context.Context, o *unstructured.Unstructured) error { return b.server.admin.Create(ctx, o) }
	apply := func(ctx context.Context, o *unstructured.Unstructured) error {
		return b.server.admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("bench"))
	}
	s := &r.Server
	if s.CreatesPerSecond, err = b.copyChildren(ctx, children, "c", create); err != nil {
		return err
	}
	if s.AppliesPerSecond, err = b.copyChildren(ctx, children, "a", apply); err != nil {
		return err
	}
	s.Ratio = r.Create.ChildrenPerSecond / max(s.CreatesPerSecond, s.AppliesPerSecond)
	return nil
}

// readChildren reads the children of the simulation "probe", without the fields that the API server sets.
func (b *bench) readChildren(ctx context.Context) ([]*unstructured.Unstructured, error) {
	var children []*unstructured.Unstructured
	for _, created := range b.probed {
		ref := created.ObjectRef
		resource := schema.GroupVersionResource{Group: ref.APIGroup, Version: ref.APIVersion, Resource: ref.Resource}
		kind, err := b.server.admin.RESTMapper().KindFor(resource)
		if err != nil {
			return nil, fmt.Errorf("find the kind of %s: %w", ref.Resource, err)
		}
		child := &unstructured.Unstructured{}
		child.SetGroupVersionKind(kind)
		if err := b.server.admin.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, child); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", kind.Kind, ref.Name, err)
		}
		for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"} {
			unstructured.RemoveNestedField(child.Object, "metadata", field)
		}
		unstructured.RemoveNestedField(child.Object, "status")
		// The API server assigns a cluster IP to each Service that is not headless. Remove the cluster IP, because each
		// copy needs its own.
		if ip, _, _ := unstructured.NestedString(child.Object, "spec", "clusterIP"); ip != "None" {
			unstructured.RemoveNestedField(child.Object, "spec", "clusterIP")
			unstructured.RemoveNestedField(child.Object, "spec", "clusterIPs")
		}
		children = append(children, child)
	}
	return children, nil
}

// copyChildren creates copies of the children for many simulations, whose names begin with the prefix. It returns the
// number of children created per second.
func (b *bench) copyChildren(ctx context.Context, children []*unstructured.Unstructured, prefix string,
	create func(context.Context, *unstructured.Unstructured) error,
) (perSecond float64, err error) {
	copies := min(b.simulations, maxCopies)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(workers)
	start := time.Now()
	for i := range copies {
		group.Go(func() error {
			name := fmt.Sprintf("%s%05d", prefix, i)
			for _, child := range children {
				o := child.DeepCopy()
				o.SetName(strings.Replace(o.GetName(), probe, name, 1))
				if err := create(ctx, o); err != nil {
					return fmt.Errorf("create a copy of %s %s: %w", o.GetKind(), child.GetName(), err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return float64(copies*len(children)) / time.Since(start).Seconds(), nil
}
