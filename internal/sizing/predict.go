package sizing

import (
	"math"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
)

// Scenario is the input of a prediction.
type Scenario struct {
	// Rate is the number of events per second. Capacity is the highest rate that can be sustained.
	Rate, Capacity float64
	Partitions     int
	// Poisson is true if arrivals are random, and false if they are evenly spaced.
	Poisson bool
	// Outage is how long the processors are down in a simulated outage. If it is 0, no outage is simulated.
	Outage time.Duration
	Seed   uint64
}

// Prediction contains the expected latency and backlog.
type Prediction struct {
	// Sustained is false if the rate reaches the capacity. All fields after UtilizationPercent are then zero.
	Sustained bool `json:"sustained"`
	// BacklogGrowthPerSecond is the growth of the backlog in events per second, or 0 if the rate is sustained.
	BacklogGrowthPerSecond float64 `json:"backlogGrowthPerSecond"`
	UtilizationPercent     float64 `json:"utilizationPercent"`
	// EndToEnd is the time from when an event is due until it takes effect.
	EndToEnd Latency `json:"endToEndSeconds"`
	// EventsInFlight is the mean number of events that are due and have not taken effect.
	EventsInFlight float64 `json:"eventsInFlight"`
	// OutageBacklog is the number of events that wait at the end of the outage.
	OutageBacklog float64 `json:"outageBacklog"`
	// RecoverySeconds is the time from the end of the outage until the backlog is gone.
	RecoverySeconds float64 `json:"recoverySeconds"`
	// Extrapolated is true if the utilization is outside of the measured range.
	Extrapolated bool `json:"extrapolated"`
}

// Latency contains quantiles and the mean of a latency in seconds.
type Latency struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Mean float64 `json:"mean"`
}

// Predict simulates the events of 10 s, but at least fewestEvents and at most mostEvents.
const (
	fewestEvents = 20_000
	mostEvents   = 200_000
	outageEvents = 500_000 // the approximate maximum number of events in the simulation of an outage
)

// Predict simulates one partition as a queue with one server. The latency of an event is its wait in this queue plus a
// random latency from the measurements at the same utilization.
func (c *Costs) Predict(s Scenario) Prediction {
	utilization := s.Rate / s.Capacity
	p := Prediction{UtilizationPercent: utilization * percent}
	if s.Rate <= 0 {
		p.Sustained = true
		return p
	}
	if s.Rate >= s.Capacity {
		p.BacklogGrowthPerSecond = s.Rate - s.Capacity
		return p
	}
	p.Sustained = true
	measured := c.latencyAt(utilization)
	p.Extrapolated = measured.extrapolated
	rate, capacity := s.Rate/float64(s.Partitions), s.Capacity/float64(s.Partitions)
	p.EndToEnd = s.simulate(rate, capacity, measured)
	p.EventsInFlight = s.Rate * p.EndToEnd.Mean
	if s.Outage > 0 {
		backlog, recovery := s.simulateOutage(rate, capacity*c.catchUp())
		p.OutageBacklog, p.RecoverySeconds = backlog*float64(s.Partitions), recovery
	}
	return p
}

func (s *Scenario) simulate(rate, capacity float64, measured delays) Latency {
	random := newRandom(s.Seed)
	queue := station{servers: 1, gap: s.gaps(rate), service: always(1 / capacity)}
	events := int(min(max(rate*10, fewestEvents), mostEvents))
	latencies, sum := make([]float64, 0, events), 0.0
	queue.run(events, func(v visit) bool {
		latency := v.wait + measured.at(random.Float64())
		latencies = append(latencies, latency)
		sum += latency
		return true
	})
	slices.Sort(latencies)
	return Latency{P50: quantile(latencies, .5), P99: quantile(latencies, .99), Mean: sum / float64(events)}
}

// simulateOutage returns the number of events of a partition that wait at the end of an outage, and the seconds from
// the end of the outage until none of them waits.
func (s *Scenario) simulateOutage(rate, capacity float64) (backlog, recovery float64) {
	outage := s.Outage.Seconds()
	length := outage * capacity / (capacity - rate) // the time from the start of the outage until the backlog is gone
	// In a long outage, each simulated event stands for several events.
	each := max(1, rate*length/outageEvents)
	rate, capacity = rate/each, capacity/each
	queue := station{servers: 1, gap: s.gaps(rate), service: always(1 / capacity), downTo: outage}
	events := int(2*rate*length) + 1
	queue.run(events, func(v visit) bool {
		if v.arrived <= outage {
			backlog = float64(v.waiting+1) * each
		}
		recovery = max(0, v.arrived-outage)
		return v.arrived <= outage || v.waiting > 0
	})
	return backlog, recovery
}

// gaps returns a function that returns the seconds until the next event of a partition. With several partitions, these
// times are random, because each plate belongs to a random partition.
func (s *Scenario) gaps(rate float64) func() float64 {
	if s.Poisson || s.Partitions > 1 {
		return poisson(newRandom(s.Seed+1), rate)
	}
	return evenly(rate)
}

// delays interpolates between the latencies of two measurements.
type delays struct {
	low, high histogram.Snapshot
	// share is the position between the histograms low (0) and high (1), on a logarithmic scale. The latency at this
	// position is then multiplied by factor.
	share, factor float64
	extrapolated  bool
}

// latencyAt interpolates between the measurements. Above the measured utilizations, it assumes that latencies grow with
// 1/(1 - utilization), as in a processor-sharing queue.
func (c *Costs) latencyAt(utilization float64) delays {
	// Omit the measurement of idle processes, which has no latencies, and the measurement at the highest rate, whose
	// latencies include the wait in a backlog.
	points := c.Points[1 : len(c.Points)-1]
	first, last := &points[0], &points[len(points)-1]
	if lowest := c.utilization(first); utilization <= lowest {
		return delays{low: first.EndToEnd, high: first.EndToEnd, factor: 1, extrapolated: utilization < lowest/2}
	}
	if highest := c.utilization(last); utilization >= highest {
		return delays{
			low: last.EndToEnd, high: last.EndToEnd, factor: (1 - highest) / max(1-utilization, .01),
			extrapolated: utilization > highest,
		}
	}
	for i := range points[1:] {
		low, high := c.utilization(&points[i]), c.utilization(&points[i+1])
		if utilization <= high {
			return delays{low: points[i].EndToEnd, high: points[i+1].EndToEnd, share: (utilization - low) / (high - low), factor: 1}
		}
	}
	return delays{low: last.EndToEnd, high: last.EndToEnd, factor: 1}
}

// at returns the q-quantile of the delays, in seconds.
func (d delays) at(q float64) float64 {
	low, high := d.low.Quantile(q).Seconds(), d.high.Quantile(q).Seconds()
	return d.factor * low * math.Pow(high/low, d.share)
}
