package simulate

import (
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// markPoll is the interval at which the schedules and the objectives are checked for new marks.
const markPoll = 500 * time.Millisecond

// marker adds a mark to the timeline when a schedule reaches its next stage, and when an objective is missed.
type marker struct {
	plan  *plan.Plan
	start time.Time
	mark  func(timeline.Mark)

	entryStage, exitStage   int
	processing, endToEndP99 bool // the objective was missed before
}

func newMarker(p *plan.Plan, start time.Time, mark func(timeline.Mark)) *marker {
	return &marker{plan: p, start: start, mark: mark}
}

// observe adds the marks that are due now. totals contains the measurements of the processors so far.
func (m *marker) observe(now time.Time, totals timeline.Row) {
	elapsed := now.Sub(m.start)
	m.stage(now, "entries", m.plan.Entry.Schedule, elapsed, &m.entryStage)
	m.stage(now, "exits", m.plan.Exit.Schedule, elapsed, &m.exitStage)
	m.objective(now, "processing", m.plan.Objectives.ProcessingP99, &m.processing, totals.Entry.Processing, totals.Exit.Processing)
	m.objective(now, "end-to-end", m.plan.Objectives.EndToEndP99, &m.endToEndP99, totals.Entry.EndToEnd, totals.Exit.EndToEnd)
}

// stage adds a mark if the schedule has reached another stage. *reached is the number of stages that were
// reached before.
func (m *marker) stage(now time.Time, subject string, s plan.Schedule, elapsed time.Duration, reached *int) {
	n := 0
	for begin := time.Duration(0); n < len(s.Stages) && elapsed >= begin; n++ {
		begin += s.Stages[n].Duration.D()
	}
	if n == *reached {
		return
	}
	*reached = n
	stage := s.Stages[n-1]
	m.mark(timeline.Mark{
		At: now, Kind: timeline.MarkStage, Subject: subject,
		Message: fmt.Sprintf("stage %d of %d, to %d events/s within %s", n, len(s.Stages), stage.Rate, stage.Duration),
	})
}

// objective adds a mark when the 99th percentile of the latencies so far exceeds the objective. It adds the
// mark only once.
func (m *marker) objective(now time.Time, name string, objective plan.Duration, missed *bool, latencies ...histogram.Snapshot) {
	if objective == 0 || *missed {
		return
	}
	p99 := histogram.Merge(latencies...).Quantile(0.99)
	if *missed = p99 > objective.D(); *missed {
		m.mark(timeline.Mark{
			At: now, Kind: timeline.MarkObjective,
			Message: fmt.Sprintf("%s p99 is %s, more than the objective of %s", name, p99.Round(10*time.Microsecond), objective),
		})
	}
}
