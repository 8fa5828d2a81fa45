package kubectl

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/podfailure"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// rewatchInterval is the delay before the next watch after the API server has ended a watch.
const rewatchInterval = time.Second

// watchSimulations calls show with each simulation, and again after each change, until ctx ends or show returns an
// error. An empty namespace or name selects all.
func (c *cluster) watchSimulations(ctx context.Context, namespace, name string, show func(sim *v1alpha1.ParkingSimulation, deleted bool) error) error {
	options := []client.ListOption{client.InNamespace(namespace)}
	if name != "" {
		options = append(options, client.MatchingFields{"metadata.name": name})
	}
	// Each new watch reports all objects again, so remember which simulations were shown.
	shown := map[types.UID]*v1alpha1.ParkingSimulation{}
	handle := func(e watch.Event) error {
		sim, ok := e.Object.(*v1alpha1.ParkingSimulation)
		if !ok {
			return nil // an Error event with a Status object, which ends the watch
		}
		if e.Type == watch.Deleted {
			delete(shown, sim.UID)
			return show(sim, true)
		}
		if last := shown[sim.UID]; last != nil && last.ResourceVersion == sim.ResourceVersion {
			return nil
		}
		shown[sim.UID] = sim
		return show(sim, false)
	}
	return c.watch(ctx, &v1alpha1.ParkingSimulationList{}, "watch simulations", onSimulations("watch"), objects{}, handle, options...)
}

const podsRetryInterval = 10 * time.Second

// watchPods records the failures of a simulation's pods until ctx ends. It retries failed watches and reports only
// their first error.
func (c *cluster) watchPods(
	ctx context.Context, simulation types.NamespacedName, failures *podfailure.Tracker, now func() time.Time, failed func(error),
) {
	hasFailed, known := false, objects{}
	for ctx.Err() == nil {
		err := c.watch(ctx, &corev1.PodList{}, "watch the pods of "+simulation.String(), onCore("pods", "watch"), known, func(e watch.Event) error {
			switch pod, ok := e.Object.(*corev1.Pod); {
			case !ok: // a Status object, with which the API server ends the watch
			case e.Type == watch.Deleted:
				// If the watch was interrupted, now() is later than the deletion, whose time is unknown.
				failures.ObserveDeleted(simulation, pod, now())
			default:
				failures.Observe(simulation, pod)
			}
			return nil
		}, client.InNamespace(simulation.Namespace), client.MatchingLabels{resources.SimulationLabel: simulation.Name})
		if err != nil && !hasFailed {
			hasFailed = true
			failed(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(podsRetryInterval):
		}
	}
}

// objects contains the objects that a watch has reported, except those that it has reported as deleted.
type objects map[types.UID]client.Object

// watch calls handle for each existing object and each change, after it has updated known. It returns when ctx ends,
// when handle returns an error, or when the API server rejects a watch.
func (c *cluster) watch(
	ctx context.Context, list client.ObjectList, doing string, needed rule, known objects, handle func(watch.Event) error,
	options ...client.ListOption,
) error {
	observe := func(e watch.Event) error {
		if object, ok := e.Object.(client.Object); ok { // an Error event contains a Status, not a client.Object
			known[object.GetUID()] = object
			if e.Type == watch.Deleted {
				delete(known, object.GetUID())
			}
		}
		return handle(e)
	}
	for {
		// The next watch does not report objects that were deleted since the last watch.
		for _, object := range c.missing(ctx, list, known, options...) {
			if err := observe(watch.Event{Type: watch.Deleted, Object: object}); err != nil {
				return err
			}
		}
		events, err := c.Watch(ctx, list, options...)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is the normal end
		case err != nil:
			return c.explain(err, doing, needed)
		}
		if err := forEach(events, observe); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatchInterval):
		}
	}
}

// missing returns the known objects that no longer exist. If the list fails, it returns nil.
func (c *cluster) missing(ctx context.Context, list client.ObjectList, known objects, options ...client.ListOption) objects {
	if len(known) == 0 {
		return nil
	}
	current, ok := list.DeepCopyObject().(client.ObjectList)
	if !ok || c.List(ctx, current, options...) != nil {
		return nil
	}
	gone := maps.Clone(known)
	_ = meta.EachListItem(current, func(o runtime.Object) error { // never fails: current is a list, and the function returns nil
		if object, ok := o.(client.Object); ok {
			delete(gone, object.GetUID())
		}
		return nil
	})
	return gone
}

// forEach passes each event to handle. It returns when the watch ends or handle returns an error.
func forEach(events watch.Interface, handle func(watch.Event) error) error {
	defer events.Stop()
	for e := range events.ResultChan() {
		if err := handle(e); err != nil {
			return err
		}
	}
	return nil
}
