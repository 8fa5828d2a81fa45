package kubectl

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// rewatchInterval is the delay before the next watch after the API server has ended a watch.
const rewatchInterval = time.Second

// watchSimulations calls show with each simulation of a namespace, and again after each change of a simulation. It
// returns when ctx ends or when show returns an error. If namespace is "", it watches all namespaces. If name is "",
// it watches all simulations.
func (c *connection) watchSimulations(ctx context.Context, namespace, name string, show func(sim *v1alpha1.ParkingSimulation, deleted bool) error) error {
	options := []client.ListOption{client.InNamespace(namespace)}
	if name != "" {
		options = append(options, client.MatchingFields{"metadata.name": name})
	}
	shown := map[types.NamespacedName]string{} // resource versions that were shown: a new watch begins with all objects, even unchanged ones
	for {
		events, err := c.Watch(ctx, &v1alpha1.ParkingSimulationList{}, options...)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is the normal end
		case err != nil:
			return c.explain(err, "watch simulations", onSimulations("watch"))
		}
		err = forEach(events, func(e watch.Event) error {
			sim, ok := e.Object.(*v1alpha1.ParkingSimulation)
			if !ok {
				return nil // a Status object, with which the API server ends the watch
			}
			key := client.ObjectKeyFromObject(sim)
			if e.Type != watch.Deleted && shown[key] == sim.ResourceVersion {
				return nil
			}
			shown[key] = sim.ResourceVersion
			return show(sim, e.Type == watch.Deleted)
		})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rewatchInterval):
		}
	}
}

// forEach calls handle with each event. It returns when the watch ends or when handle returns an error.
func forEach(events watch.Interface, handle func(watch.Event) error) error {
	defer events.Stop()
	for e := range events.ResultChan() {
		if err := handle(e); err != nil {
			return err
		}
	}
	return nil
}
