package fault

import (
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// The time after the injection of a fault and before its end in which a row of the timeline may show what happened before
// the injection or after the end: processes measure a row up to rowShift late, and clocks of machines differ.
const (
	settlesAfter = rowShift + time.Second
	settlesUntil = time.Second
)

// contradiction says what in the timeline proves that a pause or an isolation had no effect, or returns "". An injector may
// be wrong about that, such as an agent that does nothing. The timeline can prove it only if all instances of the target
// were hit, and for some seconds.
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
		if row.proves(r.Target) {
			busy++
		}
	}
	if 2*busy <= rows {
		return ""
	}
	return fmt.Sprintf("%s worked in %d of %d measurements of that time", r.Target, busy, rows)
}

// proves reports whether a row shows work that needs a target.
func (m *measured) proves(target plan.FaultTarget) bool {
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
	return false // what does not need the summary API goes on without it
}
