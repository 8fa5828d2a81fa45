package simulate

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/fault"
)

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

// Collect implements prometheus.Collector. It may take up to auditTimeout.
func (m faultMetrics) Collect(samples chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), auditTimeout)
	defer cancel()
	accounts, final := m.simulation.live.faults()
	if !final {
		// Ignore the error: without the timeline, the accounts lack only some values, such as the recovery time.
		_, accounts, _ = m.simulation.accountsSoFar(ctx)
	}
	m.Metrics.Collect(samples, fault.Results(fault.Totals(fault.History{}, accounts)))
}
