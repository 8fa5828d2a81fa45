package simulate

import (
	"math"
	"time"

	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

// Result is how a simulation ended. Its JSON form is what the command prints.
type Result struct {
	ledger.Verdict
	// Simulation is the name under which broker and store know the simulation.
	Simulation string `json:"simulation"`
	// ElapsedSeconds is the time from the start to the end of the schedule, or to the signal that ended it,
	// DrainSeconds the time from then on until everything was at rest, or was given up.
	ElapsedSeconds float64 `json:"elapsedSeconds"`
	DrainSeconds   float64 `json:"drainSeconds"`
	// Ledger is nil when it could not be read.
	Ledger         *ledger.Report `json:"ledger"`
	Rates          Rates          `json:"rates"`
	LatencySeconds Latencies      `json:"latencySeconds"`
}

// Rates are those of both types of events.
type Rates struct {
	Entry Rate `json:"entry"`
	Exit  Rate `json:"exit"`
}

// Rate compares what the schedule asked for with what was handed over to be published, in events per second.
type Rate struct {
	Target   float64 `json:"target"`
	Achieved float64 `json:"achieved"`
	// Missed counts the events that were due and never attempted.
	Missed int64 `json:"missed"`
	// MaxLagSeconds is the longest that was observed between the instant at which an event was due and its
	// publishing.
	MaxLagSeconds float64 `json:"maxLagSeconds"`
}

// Latencies are the time in ProcessMessage, and the time from the instant at which an event was due to its
// effect. A latency is nil when no event was measured.
type Latencies struct {
	Processing *Latency `json:"processing"`
	EndToEnd   *Latency `json:"endToEnd"`
}

// Latency is a distribution, in seconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Mean float64 `json:"mean"`
}

func (s *Simulation) result(elapsed, drain time.Duration) Result {
	done := s.processor.Stats()
	entryLag, exitLag := s.observed.maxLags()
	return Result{
		Simulation:     s.options.Plan.Simulation,
		ElapsedSeconds: thousandths(elapsed.Seconds()),
		DrainSeconds:   thousandths(drain.Seconds()),
		Rates:          Rates{Entry: rateOf(s.entries.Stats(), entryLag), Exit: rateOf(s.exits.Stats(), exitLag)},
		LatencySeconds: Latencies{Processing: latencyOf(done.Processing()), EndToEnd: latencyOf(done.EndToEnd())},
	}
}

func rateOf(s generator.Stats, maxLag time.Duration) Rate {
	return Rate{Target: thousandths(s.TargetRate), Achieved: thousandths(s.AchievedRate), Missed: s.Missed, MaxLagSeconds: maxLag.Seconds()}
}

// thousandths cuts digits that mean nothing.
func thousandths(v float64) float64 { return math.Round(v*1000) / 1000 }

func latencyOf(s latency.Snapshot) *Latency {
	if s.Count() == 0 {
		return nil
	}
	return &Latency{P50: s.Quantile(.50).Seconds(), P99: s.Quantile(.99).Seconds(), Mean: s.Mean().Seconds()}
}
