// Package metrics contains what the metrics of all components have in common: their prefix, their registration
// and their buckets.
package metrics

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Namespace is the prefix of the names of all metrics of a simulation.
const Namespace = "parking"

// Register registers the collectors of a component. The error contains the name of the component.
func Register(r prometheus.Registerer, component string, collectors ...prometheus.Collector) error {
	var errs []error
	for _, c := range collectors {
		errs = append(errs, r.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("register the metrics of the %s: %w", component, err)
	}
	return nil
}

// Latency returns the options for a histogram of durations in seconds. Its classic buckets are for Prometheus
// servers that do not scrape native histograms.
func Latency(name, help string) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Namespace: Namespace,
		Name:      name,
		Help:      help,
		Buckets: []float64{
			.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30,
		},
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}
}
