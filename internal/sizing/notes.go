package sizing

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/parking-operator/parking-operator/internal/terminal"
)

// String says in one sentence where the costs come from.
func (c *Costs) String() string {
	return fmt.Sprintf("Measured on %s on %d cores of %s (%s), with RabbitMQ %s and Redis %s, at %s to %s events/s.",
		c.MeasuredAt.Format("2006-01-02"), c.Machine.Cores, c.Machine.CPU, c.Machine.Kernel, c.Method.RabbitMQ, c.Method.Redis,
		count(c.Points[1].Rate()), count(c.highest().Rate()))
}

// notes returns sentences that say what a plan assumes, and where the plan goes beyond what was measured.
func (c *Costs) notes(r *Result, s share) []string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	rate, highest := s.entries+s.exits, c.highest()
	if r.Infeasible != "" {
		notes = append(notes, r.Infeasible)
	} else if r.Simulations > 1 {
		limit, _ := c.exceeded(&r.Request, r.Simulations-1)
		add("The plan has %d simulations, because with only %d, %s. All simulations are alike, and each has its own servers and its own verdict.",
			r.Simulations, r.Simulations-1, limit)
	}
	if rate > highest.Rate() {
		add("Extrapolated: %s events/s in one simulation are %s times the highest measured rate, %s events/s. The plan assumes that "+
			"CPU, disk writes and network traffic of RabbitMQ and Redis grow in proportion to the rate of events.",
			count(rate), factor(rate/highest.Rate()), count(highest.Rate()))
	}
	if s.summaries > highest.SummariesPerSecond {
		add("Extrapolated: %s summaries/s in one simulation are more than the highest measured rate, %s summaries/s.", count(s.summaries), count(highest.SummariesPerSecond))
	}
	if s.visits > float64(c.Growth.Visits) {
		add("Extrapolated: Redis keeps %s parked vehicles of %.0f bytes each, but at most %s were measured.",
			count(s.visits), c.Growth.RedisBytesPerVisit, count(float64(c.Growth.Visits)))
	}
	if r.Request.Outage > 0 {
		add("Not measured: the memory of RabbitMQ while many events wait. The planned disk of RabbitMQ has room for all events of the longest outage (--outage).")
	}
	if pods := several(r); pods != "" {
		add("Extrapolated: one pod of each component and one partition were measured. The plan assumes that %s divide the work evenly.", pods)
	}
	if r.Request.RabbitMQNodes > 1 {
		add("Extrapolated: one RabbitMQ node was measured. The plan assumes that each of %d nodes uses as many resources as a single node at the same rate of events, "+
			"because every node has a replica of every queue.", r.Request.RabbitMQNodes)
	}
	if r.Request.External.Database {
		add("Not included: PostgreSQL for %s summaries/s. The costs of PostgreSQL were not measured with those of the other components; docs/operations.md compares PostgreSQL with SQLite.", count(s.summaries))
	}
	if matched, measured := s.summaries/rate, highest.SummariesPerSecond/highest.Rate(); matched > measured*1.1 {
		add("Extrapolated: %.0f %% of the events finish a visit, but the costs were measured with %.0f %%. Events that finish a visit cost more, so plan with a reserve.",
			matched*percent, measured*percent)
	}
	return append(notes, c.assumptions(r)...)
}

func (c *Costs) assumptions(r *Result) []string {
	var notes []string
	if p := r.Prediction; p.Extrapolated {
		notes = append(notes, fmt.Sprintf("Extrapolated: latencies were not measured at a utilization of %.0f %%.", p.UtilizationPercent))
	}
	if c.Busy() {
		notes = append(notes, fmt.Sprintf("Other programs may have slowed down the measurement: they used up to %.1f cores, and "+
			"the benchmark had the nice value %d (0 is the normal priority, 19 the lowest). On an idle machine, latencies and the highest rate are better.", c.otherCores(), c.Method.Nice))
	}
	return append(notes,
		"A core in this plan is a core of the machine on which the costs were measured. A core of your machine may be twice as fast or half as fast: measure the costs on your machine as docs/sizing.md describes, and pass the resulting file with --costs.",
		"All processes ran on one machine. The network between nodes adds to latencies.",
		"Not included: Kubernetes, the operator, monitoring, and sidecars.",
	)
}

// several lists the components, except RabbitMQ, that have more than one pod, and the partitions if there are several.
// An example is "2 pods of processor and 3 partitions".
func several(r *Result) string {
	var all []string
	for i := range r.Components {
		if p := &r.Components[i]; p.Replicas > 1 && p.Component != RabbitMQ {
			all = append(all, strconv.Itoa(p.Replicas)+" pods of "+string(p.Component))
		}
	}
	if r.Partitions > 1 {
		all = append(all, strconv.Itoa(r.Partitions)+" partitions")
	}
	if n := len(all); n > 1 {
		return strings.Join(all[:n-1], ", ") + " and " + all[n-1]
	}
	return strings.Join(all, "")
}

func count(n float64) string { return terminal.Count(int64(math.Round(n))) }

func factor(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
