package sizing

import (
	"container/heap"
	"math"
	"math/rand/v2"
)

// station is a queue with servers, as in queueing theory: events arrive, wait in the order of their arrival, and are
// served. All times are in seconds.
type station struct {
	// servers is the number of servers. Each server serves one event at a time.
	servers int
	// The function gap returns the time until the next arrival. The function service returns the service time of an
	// event.
	gap, service func() float64
	// From downFrom until downTo, no server starts to serve an event.
	downFrom, downTo float64
}

// visit contains the arrival time, the waiting time and the service time of one event.
type visit struct {
	arrived, wait, served float64
	// waiting is the number of earlier events that were still waiting when this event arrived.
	waiting int
}

// run simulates events, and passes each visit to the function yield in the order of arrival. It ends early if yield
// returns false.
func (s station) run(events int, yield func(visit) bool) {
	free := make(times, max(s.servers, 1)) // the time at which each server becomes free
	starts := make([]float64, 0, events)   // the time at which the service of each event starts, in ascending order
	now, started := 0.0, 0
	for i := range events {
		now += s.gap()
		start := max(now, free[0])
		if start >= s.downFrom && start < s.downTo {
			start = s.downTo
		}
		served := s.service()
		free[0] = start + served
		heap.Fix(&free, 0)
		starts = append(starts, start)
		for started < i && starts[started] <= now {
			started++
		}
		if !yield(visit{arrived: now, wait: start - now, served: served, waiting: i - started}) {
			return
		}
	}
}

// times is a min-heap that contains, for each server, the time at which the server becomes free.
type times []float64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }

// Push is required by heap.Interface. It is never called, because the number of servers does not change.
func (t *times) Push(any) {}

// Pop is required by heap.Interface. It is never called, because the number of servers does not change.
func (t *times) Pop() any { return nil }

// newRandom returns a source of random numbers. The same seed gives the same numbers.
func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// poisson returns a function that draws the gap between two events of a Poisson process, in seconds.
func poisson(random *rand.Rand, rate float64) func() float64 {
	return func() float64 { return random.ExpFloat64() / rate }
}

// evenly returns the gap function of evenly spaced events. The gap is always 1/rate seconds.
func evenly(rate float64) func() float64 { return func() float64 { return 1 / rate } }

func always(seconds float64) func() float64 { return func() float64 { return seconds } }

func quantile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(math.Ceil(q*float64(len(sorted))))-1)]
}
