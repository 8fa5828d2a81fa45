package fault

import (
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Rows near the start and end of a fault may contain work from outside the fault, because rows are recorded late and
// clocks differ.
const (
	ignoredAfterStart = rowShift + time.Second
	ignoredBeforeEnd  = time.Second
)

// contradiction returns why the timeline proves that a pause or an isolation had no effect, or "". A proof needs a
// fault of several seconds on all instances.
func (s *search) contradiction(r *Record) string {
	if r.State != Healed || !r.Action.Lasts() || len(r.Hit) == 0 || len(r.Hit) != r.Of {
		return ""
	}
	from, to := r.InjectedAt.Add(ignoredAfterStart), r.HealedAt.Add(-ignoredBeforeEnd)
	rows, busy := 0, 0
	for i := range s.rows {
		row := &s.rows[i]
		if row.start.Before(from) || row.end.After(to) {
			continue
		}
		rows++
		if row.disproves(r.Target) {
			busy++
		}
	}
	if 2*busy <= rows {
		return ""
	}
	return fmt.Sprintf("%s worked in %d of %d measurements during the fault", r.Target, busy, rows)
}

// disproves reports whether the row contains work that is impossible while the target is paused or isolated.
func (m *measured) disproves(target plan.FaultTarget) bool {
	switch target {
	case plan.TargetRedis, plan.TargetProcessor:
		return m.effects[0]+m.effects[1] > 0
	case plan.TargetRabbitMQ, plan.TargetRabbitMQLeader:
		return m.confirmed[0]+m.confirmed[1] > 0
	case plan.TargetEntryGenerator:
		return m.confirmed[0] > 0
	case plan.TargetExitGenerator:
		return m.confirmed[1] > 0
	case plan.TargetSummaryAPI:
	}
	return false // the timeline does not show whether the summary API works
}
