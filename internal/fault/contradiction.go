package fault

import (
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// A process may measure a row up to rowShift late, and the clocks of the machines may differ. So a row near the start
// or the end of a fault may contain work from before or after the fault. The function contradiction ignores a row that
// begins less than settlesAfter after the start of the fault, or ends less than settlesUntil before the end of the
// fault.
const (
	settlesAfter = rowShift + time.Second
	settlesUntil = time.Second
)

// contradiction checks whether the timeline proves that a pause or an isolation had no effect, although the injector
// reported that the fault took effect. It returns the proof as a text, or "" if there is no proof. A proof is possible
// only if all instances of the target were hit, and the fault lasted several seconds.
func (s *search) contradiction(r *Record) string {
	if r.State != Healed || !r.Action.Lasts() || len(r.Hit) == 0 || len(r.Hit) != r.Of {
		return ""
	}
	from, to := r.InjectedAt.Add(settlesAfter), r.HealedAt.Add(-settlesUntil)
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

// disproves reports whether m, a row of the timeline, contains work that is impossible while the target is paused or
// isolated. Such work proves that the fault was not in effect.
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
