package simulate

import (
	"math"
	"time"

	"github.com/parking-operator/parking-operator/internal/generator"
	"github.com/parking-operator/parking-operator/internal/latency"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

// Result is the result of a simulation. The simulate command prints its JSON form.
type Result struct {
	ledger.Verdict
	// Simulation is the name of the simulation on the broker and in the store.
	Simulation string `json:"simulation"`
	// ElapsedSeconds is the time from the start to the end of the schedule, or to the signal that ended it.
	// DrainSeconds is the time from then until the simulation was at rest, or gave up.
	ElapsedSeconds float64 `json:"elapsedSeconds"`
	DrainSeconds   float64 `json:"drainSeconds"`
	// Ledger is nil if it could not be read.
	Ledger         *ledger.Report `json:"ledger"`
	Rates          Rates          `json:"rates"`
	LatencySeconds Latencies      `json:"latencySeconds"`
}

// Rates are the rates of both event types.
type Rates struct {
	Entry Rate `json:"entry"`
	Exit  Rate `json:"exit"`
}

// Rate compares the schedule with what was published, in events per second.
type Rate struct {
	Target   float64 `json:"target"`
	Achieved float64 `json:"achieved"`
	// Missed counts the due events that were never attempted.
	Missed int64 `json:"missed"`
	// MaxLagSeconds is the longest observed time between the time at which an event was due and its
	// publishing.
	MaxLagSeconds float64 `json:"maxLagSeconds"`
}

// Latencies are the time in ProcessMessage, and the time from when an event was due to its effect. A latency
// is nil if no event was measured.
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
		Simulation:     s.config.Plan.Simulation,
		ElapsedSeconds: roundToThousandths(elapsed.Seconds()),
		DrainSeconds:   roundToThousandths(drain.Seconds()),
		Rates:          Rates{Entry: rateOf(s.entries.Stats(), entryLag), Exit: rateOf(s.exits.Stats(), exitLag)},
		LatencySeconds: Latencies{Processing: latencyOf(done.Processing()), EndToEnd: latencyOf(done.EndToEnd())},
	}
}

func rateOf(s generator.Stats, maxLag time.Duration) Rate {
	return Rate{
		Target:        roundToThousandths(s.TargetRate),
		Achieved:      roundToThousandths(s.AchievedRate),
		Missed:        s.Missed,
		MaxLagSeconds: maxLag.Seconds(),
	}
}

func roundToThousandths(v float64) float64 { return math.Round(v*1000) / 1000 }

func latencyOf(s latency.Snapshot) *Latency {
	if s.Count() == 0 {
		return nil
	}
	return &Latency{P50: s.Quantile(.50).Seconds(), P99: s.Quantile(.99).Seconds(), Mean: s.Mean().Seconds()}
}
