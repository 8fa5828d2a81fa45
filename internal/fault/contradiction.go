package fault

import (
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// Rows near the beginning and the end of a fault do not prove anything about it. They may show what happened
// before the injection or after the end, because processes measure a row up to rowShift late, and clocks of
// machines differ. settlesAfter is the length of that time after the injection, and settlesUntil before the
// end.
const (
	settlesAfter = rowShift + time.Second
	settlesUntil = time.Second
)

// contradiction says what in the timeline proves that a pause or an isolation had no effect, although its
// injector reported one. It returns "" if nothing does. The timeline can prove that only if all instances of
// the target were hit, and for at least some seconds.
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

// proves reports whether the row shows work that is impossible while the target is paused or isolated.
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
