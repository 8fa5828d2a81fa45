package simulate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// group contains the instances of a component, possibly none.
type group[P process[S], S any] struct {
	instances []*component[P, S]
	// sum adds the counts of two instances.
	sum func(a, b S) S
}

// newGroup returns a group of n instances of the component with the given name. If labeled is true, the metrics
// of each instance have the label "pod".
func newGroup[P process[S], S any](
	n int, labeled bool, name string, sum func(a, b S) S, registerer prometheus.Registerer,
	create func(name string, registerer prometheus.Registerer) *component[P, S],
) *group[P, S] {
	g := &group[P, S]{sum: sum}
	for i := range n {
		instance, registers := name, registerer
		if n > 1 {
			instance += "-" + strconv.Itoa(i)
		}
		if labeled {
			registers = prometheus.WrapRegistererWith(prometheus.Labels{"pod": instance}, registerer)
		}
		g.instances = append(g.instances, create(instance, registers))
	}
	return g
}

func (g *group[P, S]) begin() error {
	var errs []error
	for _, c := range g.instances {
		errs = append(errs, c.begin(false))
	}
	return errors.Join(errs...)
}

// Run runs all instances until ctx ends or all have ended. If one instance fails, Run stops the others.
func (g *group[P, S]) Run(ctx context.Context) error {
	if len(g.instances) == 0 { // wait, because the simulation ends when its processors end
		<-ctx.Done()
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(g.instances))
	var running sync.WaitGroup
	for i, c := range g.instances {
		running.Go(func() {
			if errs[i] = c.Run(ctx); errs[i] == nil {
				return
			}
			if len(g.instances) > 1 {
				errs[i] = fmt.Errorf("%s: %w", c.name, errs[i])
			}
			cancel()
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// Stats returns the counts of all instances so far, added up.
func (g *group[P, S]) Stats() S {
	var total S
	for i, c := range g.instances {
		if stats := c.Stats(); i == 0 {
			total = stats
		} else {
			total = g.sum(total, stats)
		}
	}
	return total
}

// Totals returns the measurements of all instances so far, added up.
func (g *group[P, S]) Totals() timeline.Row {
	if len(g.instances) == 1 {
		return g.instances[0].Totals()
	}
	var totals []timeline.Row
	for _, c := range g.instances {
		totals = append(totals, c.Totals())
	}
	return timeline.Sum(totals...)
}

func (g *group[P, S]) processes() []P {
	var all []P
	for _, c := range g.instances {
		all = append(all, c.process())
	}
	return all
}

func (g *group[P, S]) targets() []fault.Instance {
	var all []fault.Instance
	for _, c := range g.instances {
		all = append(all, c)
	}
	return all
}
