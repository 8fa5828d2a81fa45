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
	// Sustained is false if the rate is not below the capacity. The backlog then grows without end, by
	// BacklogGrowthPerSecond events per second, and all fields after UtilizationPercent have their zero values.
	Sustained              bool    `json:"sustained"`
	BacklogGrowthPerSecond float64 `json:"backlogGrowthPerSecond"`
	UtilizationPercent     float64 `json:"utilizationPercent"`
	// EndToEnd is the time from when an event is due until it takes effect.
	EndToEnd Latency `json:"endToEndSeconds"`
	// EventsInFlight is the mean number of events that are due and have not taken effect.
	EventsInFlight float64 `json:"eventsInFlight"`
	// OutageBacklog is the number of events that wait at the end of the outage, when the processors run again.
	// RecoverySeconds is the time from the end of the outage until these events are processed.
	OutageBacklog   float64 `json:"outageBacklog"`
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

// fewestEvents and mostEvents limit the number of events that Predict simulates to predict latencies: normally those of
// 10 s. outageEvents is about the largest number that it simulates to predict the backlog of an outage.
const (
	fewestEvents = 20_000
	mostEvents   = 200_000
	outageEvents = 500_000
)

// Predict simulates one partition as a queue with one server: the CPU processes one event after the other, as fast as
// the capacity permits. The predicted latency of an event is the sum of two times: the wait in this queue, and a
// measured latency that is drawn at random. Predict draws from the latencies that were measured at the utilization of
// the scenario, which is Rate divided by Capacity. The measured latencies include the waits for batches and commits.
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

// simulateOutage simulates an outage. It returns how many events of a partition wait at its end, and how many seconds
// pass until these events are processed. In a long outage, each simulated event stands for several events.
func (s *Scenario) simulateOutage(rate, capacity float64) (backlog, recovery float64) {
	outage := s.Outage.Seconds()
	length := outage * capacity / (capacity - rate) // the time from the start of the outage until the backlog is gone
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
// times are random even if arrivals are evenly spaced, because each plate belongs to a random partition.
func (s *Scenario) gaps(rate float64) func() float64 {
	if s.Poisson || s.Partitions > 1 {
		return poisson(newRandom(s.Seed+1), rate)
	}
	return evenly(rate)
}

// delays interpolates between the latencies of two measurements.
type delays struct {
	low, high histogram.Snapshot
	// A quantile is interpolated, on a logarithmic scale, between the quantile of low (share 0) and the quantile of
	// high (share 1). The result is multiplied by factor.
	share, factor float64
	extrapolated  bool
}

// latencyAt interpolates the latencies at a utilization between measurements. It ignores the measurement of the highest
// rate, whose latencies are those of a backlog. Above the other measurements, it assumes that latencies grow with
// 1/(1 - utilization), as in a processor-sharing queue.
func (c *Costs) latencyAt(utilization float64) delays {
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
