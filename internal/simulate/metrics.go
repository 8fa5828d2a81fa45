package simulate

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/fault"
)

// faultMetrics exports metrics about the faults so far. It is a prometheus.Collector.
type faultMetrics struct {
	*fault.Metrics

	simulation *Simulation
}

// registerFaults registers metrics about the faults, if the plan has any.
func (s *Simulation) registerFaults() error {
	if len(s.config.Plan.Faults) == 0 {
		return nil
	}
	return s.deps.Registerer.Register(faultMetrics{fault.NewMetrics(), s})
}

// Collect implements prometheus.Collector. It may take up to auditTimeout, because it may read the timeline from the
// store.
func (m faultMetrics) Collect(samples chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), auditTimeout)
	defer cancel()
	accounts, final := m.simulation.live.faults()
	if !final {
		// Ignore the error of reading the timeline. The accounts then lack only the data from the timeline, such as the
		// recovery.
		_, accounts, _ = m.simulation.accountsSoFar(ctx)
	}
	m.Metrics.Collect(samples, fault.Results(fault.Totals(fault.History{}, accounts)))
}
