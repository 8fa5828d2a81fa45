package simulate

import (
	"math"
	"time"

	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/report"
)

func (s *Simulation) result(start time.Time, elapsed, drain time.Duration) report.Run {
	entryLag, exitLag := s.observed.maxLags()
	// Use wall clock times, because the monotonic clock stops while the machine is suspended. Round removes the
	// monotonic clock reading.
	end := start.Add(elapsed + drain).Round(0)
	if now := time.Now().Round(0); now.After(end) {
		end = now
	}
	return report.Run{
		Simulation:     s.config.Plan.Simulation,
		StartTime:      start.UTC(),
		EndTime:        end.UTC(),
		ElapsedSeconds: roundToThousandths(elapsed.Seconds()),
		DrainSeconds:   roundToThousandths(drain.Seconds()),
		Rates:          report.Rates{Entry: rateOf(s.entries.Stats(), entryLag), Exit: rateOf(s.exits.Stats(), exitLag)},
		Objectives:     s.config.Plan.Objectives,
	}
}

func rateOf(s generator.Stats, maxLag time.Duration) report.Rate {
	return report.Rate{
		Target:        roundToThousandths(s.TargetRate),
		Achieved:      roundToThousandths(s.AchievedRate),
		Missed:        s.Missed,
		MaxLagSeconds: maxLag.Seconds(),
	}
}

func roundToThousandths(v float64) float64 { return math.Round(v*1000) / 1000 }
