package sizing

import (
	"encoding/json"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// testCosts returns costs that grow in proportion to the rate. Each event takes 100 µs of CPU time, so two cores
// process up to 20,000 events/s.
func testCosts() *Costs {
	c := &Costs{
		MeasuredAt:     time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Machine:        Machine{CPU: "test", Cores: 2, MemoryBytes: 8 << 30, Kernel: "Linux"},
		Method:         Method{RabbitMQ: "3.10", Redis: "7.0"},
		DrainPerSecond: 20_000,
		Growth:         Growth{RedisBytesPerVisit: 200, DatabaseBytesPerSummary: 250, Visits: 100_000, Summaries: 10_000},
	}
	for _, rate := range []float64{0, 1000, 5000, 10_000, 20_000} {
		p := Point{EntriesPerSecond: rate / 2, ExitsPerSecond: rate / 2, SummariesPerSecond: rate / 10, Components: map[Component]Usage{}}
		for component, micros := range map[Component]float64{
			RabbitMQ: 50, Redis: 12, Processor: 20, EntryGenerator: 6, ExitGenerator: 6, SummaryAPI: 6,
		} {
			p.Components[component] = Usage{
				Cores: rate * micros / 1e6, MemoryBytes: 64 << 20, DiskBytes: 1 << 20, WriteBytes: 100 * rate, NetworkBytes: 500 * rate,
			}
		}
		if rate > 0 {
			p.EndToEnd = around(time.Duration(2+rate/1000) * time.Millisecond)
		}
		c.Points = append(c.Points, p)
	}
	return c
}

// around returns a histogram of durations from half the given mean to one and a half times the mean.
func around(mean time.Duration) histogram.Snapshot {
	var h histogram.Histogram
	for i := range 1000 {
		h.Observe(mean/2 + mean*time.Duration(i)/1000)
	}
	return h.Snapshot()
}

func request(rate int64) Request {
	return Request{
		EntriesPerSecond: (rate + 1) / 2, ExitsPerSecond: rate / 2, MatchPercent: 20,
		MaxStay: plan.Duration(10 * time.Minute), Duration: plan.Duration(time.Hour), Outage: plan.Duration(time.Minute),
		UtilizationPercent: 60, RabbitMQNodes: 1, Node: Node{Cores: 8, MemoryBytes: 32 << 30}, Seed: 1,
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*math.Abs(want) {
		t.Errorf("%s is %g, want %g within %g %%", what, got, want, tolerance*100)
	}
}

func TestEmbeddedCosts_AreValid(t *testing.T) {
	t.Parallel()
	c, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.String(), c.MeasuredAt.Format("2006-01-02")) {
		t.Errorf("%q does not name the day of the measurement", c)
	}
}

// The sizes in the comments of the API types are written by hand. The test tolerates 25 %, so that a new measurement
// seldom requires new comments.
func TestEmbeddedCosts_BytesPerVisitAndSummary_AgreeWithTheCommentsOfTheCRDTypes(t *testing.T) {
	t.Parallel()
	c, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../api/v1alpha1/parkingsimulation_types.go")
	if err != nil {
		t.Fatal(err)
	}
	for pattern, measured := range map[string]float64{
		`some (\d+) bytes each`:                c.Growth.RedisBytesPerVisit,
		`by some (\d+) bytes per matched exit`: c.Growth.DatabaseBytesPerSummary,
	} {
		comments := regexp.MustCompile(pattern).FindAllSubmatch(text, -1)
		if len(comments) == 0 {
			t.Errorf("no comment matches %q", pattern)
		}
		for _, comment := range comments {
			size, err := strconv.ParseFloat(string(comment[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			near(t, string(comment[0]), size, measured, 0.25)
		}
	}
}

func TestParseCosts_InvalidFile_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, edit := range map[string]func(*Costs){
		"at least 3 measurements":                            func(c *Costs) { c.Points = c.Points[:2] },
		"must be of idle processes":                          func(c *Costs) { c.Points = c.Points[1:] },
		"at 1000 events/s must have higher rates of entries": func(c *Costs) { c.Points[1], c.Points[2] = c.Points[2], c.Points[1] },
		"at 5000 events/s must have higher rates of entries, exits and summaries": func(c *Costs) {
			c.Points[2].SummariesPerSecond = c.Points[1].SummariesPerSecond
		},
		"at 5000 events/s has no costs of redis":                                 func(c *Costs) { delete(c.Points[2].Components, Redis) },
		"growth.redisBytesPerVisit or growth.databaseBytesPerSummary is missing": func(c *Costs) { c.Growth = Growth{} },
	} {
		c := testCosts()
		edit(c)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCosts(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
	for _, text := range []string{`{"unknown": 1}`, "12", ""} {
		if _, err := ParseCosts([]byte(text)); err == nil || !strings.Contains(err.Error(), "make bench-costs") {
			t.Errorf("%q: the error is %v, want one that names make bench-costs", text, err)
		}
	}
}

func TestUsageAt_UnmeasuredRate_InterpolatesOrExtrapolates(t *testing.T) {
	t.Parallel()
	c := testCosts()
	half := c.Points[2].Components[RabbitMQ]
	half.Cores *= 2 // move the measurement at 5,000 events/s off the straight line through the other measurements
	c.Points[2].Components[RabbitMQ] = half
	for rate, want := range map[float64]float64{0: 0, 1000: .05, 3000: .275, 5000: .5, 20_000: 1, 100_000: 5} {
		if got := c.UsageAt(RabbitMQ, rate).Cores; math.Abs(got-want) > 1e-9 {
			t.Errorf("%g events/s use %g cores, want %g", rate, got, want)
		}
	}
	if got := c.UsageAt(EntryGenerator, 10_000).Cores; math.Abs(got-.12) > 1e-9 {
		t.Errorf("10,000 entries/s use %g cores, want .12, the measured value at 20,000 events/s, half of which are entries", got)
	}
}

func TestCompute_LowRate_NeedsOnePodOfEachComponent(t *testing.T) {
	t.Parallel()
	r := Compute(testCosts(), request(100))
	if r.Simulations != 1 || r.Partitions != 1 || r.Total.Nodes != 1 || r.Total.Pods != len(Components()) {
		t.Errorf("plan is %+v", r)
	}
	near(t, "CPU", r.Total.UsedCores, .01, .01)
}

func TestCompute_AnyRate_PlanKeepsTheLimitsAndTheTargetUtilization(t *testing.T) {
	t.Parallel()
	c := testCosts()
	for _, rate := range []int64{1, 1000, 20_000, 100_000, 1_000_000, 3_000_001} {
		for _, nodes := range []int{1, 3} {
			for _, external := range []bool{false, true} {
				q := request(rate)
				q.RabbitMQNodes, q.External = nodes, External{external, external, external}
				r := Compute(c, q)
				s := q.share(r.Simulations)
				if r.Infeasible != "" {
					t.Errorf("%d events/s: with %d simulations: %s", rate, r.Simulations, r.Infeasible)
				}
				if r.Simulations > 1 {
					if limit, _ := c.exceeded(&q, r.Simulations-1); limit == "" {
						t.Errorf("%d events/s: %d simulations are more than needed", rate, r.Simulations)
					}
				}
				if perPartition := (s.entries + s.exits) / float64(r.Partitions); perPartition > .6*c.highest().Rate()+1e-6 {
					t.Errorf("%d events/s: %g events/s in a partition", rate, perPartition)
				}
				for _, p := range r.Components {
					if p.UsedCores > .6*p.CPURequest+1e-9 {
						t.Errorf("%d events/s: %s uses %g of %g cores", rate, p.Component, p.UsedCores, p.CPURequest)
					}
				}
				if !r.Prediction.Sustained {
					t.Errorf("%d events/s: the plan does not sustain its rate: capacity is %v", rate, r.Capacity)
				}
			}
		}
	}
}

func TestCompute_CPU_FollowsTheMeasuredCosts(t *testing.T) {
	t.Parallel()
	for _, rate := range []int64{20_000, 1_000_000} {
		r := Compute(testCosts(), request(rate))
		near(t, "CPU", r.Total.UsedCores, float64(rate)*100e-6, .001)
	}
	q := request(20_000)
	q.RabbitMQNodes = 3
	near(t, "CPU with three RabbitMQ nodes", Compute(testCosts(), q).Total.UsedCores, 20_000*200e-6, .001)
}

func TestCompute_StoredData_GrowsWithMaxStayAndDuration(t *testing.T) {
	t.Parallel()
	q := request(10_000)
	r := Compute(testCosts(), q)
	// Each second, 5,000 vehicles enter and 1,000 leave. Redis keeps the visits of the other 4,000 until they expire
	// after the longest stay, 600 s.
	const visits = 4000 * 600
	near(t, "parked vehicles", float64(r.Total.VisitsInRedis), visits, .001)
	bits := 10_000. * 3600 * bitsPerEvent / 8
	near(t, "memory of Redis", float64(r.pods(Redis).MemoryRequest), memoryMargin*(64<<20+visits*200+bits), .05)
	near(t, "volume of the summaries", float64(r.pods(SummaryAPI).DiskBytes), 2<<30, .001)
	q.Duration = plan.Duration(100 * time.Hour)
	r = Compute(testCosts(), q)
	near(t, "volume of the summaries", float64(r.pods(SummaryAPI).DiskBytes), diskMargin*1000*360_000*250, .02)
	near(t, "parked vehicles", float64(r.Total.VisitsInRedis), visits, .001)
}

func TestCompute_BeyondTheMeasurements_NotesSayWhatIsExtrapolated(t *testing.T) {
	t.Parallel()
	extrapolated := func(rate int64, edit func(*Request)) string {
		q := request(rate)
		q.MaxStay = plan.Duration(10 * time.Second)
		edit(&q)
		var all []string
		for _, note := range Compute(testCosts(), q).Notes {
			if strings.HasPrefix(note, "Extrapolated") {
				all = append(all, note)
			}
		}
		return strings.Join(all, "\n")
	}
	none := func(*Request) {}
	if got := extrapolated(10_000, none); got != "" {
		t.Errorf("a measured rate is extrapolated: %s", got)
	}
	for _, tt := range []struct {
		rate int64
		edit func(*Request)
		want string
	}{
		{30_000, none, "30,000 events/s in one simulation are 1.5 times the highest measured rate"},
		{30_000, none, "3,000 summaries/s in one simulation are more than the highest measured rate, 2,000 summaries/s"},
		{30_000, none, "2 pods of processor, 2 pods of entry, 2 pods of exit and 3 partitions"},
		{10_000, func(q *Request) { q.MaxStay = plan.Duration(time.Minute) }, "240,000 parked vehicles"},
		{10_000, func(q *Request) { q.RabbitMQNodes = 3 }, "one RabbitMQ node was measured"},
		{10_000, func(q *Request) { q.MatchPercent = 60 }, "30 % of the events finish a visit, but the costs were measured with 10 %"},
		{11_000, none, "latencies were not measured"},
	} {
		if got := extrapolated(tt.rate, tt.edit); !strings.Contains(got, tt.want) {
			t.Errorf("%d events/s: notes are %q, want %q", tt.rate, got, tt.want)
		}
	}
}

func TestCompute_NoNumberOfSimulationsIsEnough_ResultContainsTheLimitAndTheRemedy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rate int64
		edit func(*Request)
		want string
	}{
		"small nodes":     {1000, func(q *Request) { q.Node.MemoryBytes = 1 << 20 }, "would not fit on a node. Plan with larger nodes: raise --node-cores or --node-memory."},
		"long stays":      {1_000_000, func(q *Request) { q.MaxStay = plan.Duration(plan.MaxDuration) }, "Shorten the longest stay (--max-stay, or plates.maxStay in the manifest), or plan a lower rate."},
		"low utilization": {3_000_000, func(q *Request) { q.UtilizationPercent = 1 }, "Redis would use more than 1 % of a core, and it runs commands on one core only. Raise --utilization, or use a Redis Cluster of your own (plan it with --external-servers)."},
	} {
		q := request(tt.rate)
		tt.edit(&q)
		r := Compute(testCosts(), q)
		if !strings.HasPrefix(r.Infeasible, "No number of simulations is enough: ") || !strings.HasSuffix(r.Infeasible, tt.want) {
			t.Errorf("%s: the plan is infeasible because %q, want %q", name, r.Infeasible, tt.want)
		}
		if notes := strings.Join(r.Notes, "\n"); !strings.HasPrefix(notes, r.Infeasible) || strings.Contains(notes, "The plan has") {
			t.Errorf("%s: notes are %s", name, notes)
		}
	}
}

func TestNodes_PodsOfDifferentSizes_ReturnsTheNumberOfNodesForAllPods(t *testing.T) {
	t.Parallel()
	r := &Result{Simulations: 2, Request: Request{Node: Node{Cores: 4, MemoryBytes: 100}}, Components: []Pods{
		{Replicas: 1, CPURequest: 3, MemoryRequest: 10}, {Replicas: 2, CPURequest: 1, MemoryRequest: 10}, {Replicas: 1, CPURequest: .1, MemoryRequest: 95},
	}}
	// In both simulations, the pod of 95 bytes needs its own node, and the pod of 3 cores shares a node with one pod of
	// 1 core. The remaining two pods of 1 core share the fifth node.
	if got := nodes(r); got != 5 {
		t.Errorf("%d nodes, want 5", got)
	}
}

// The mean waits follow from the Pollaczek-Khinchine formula (M/M/1, M/D/1) and the Erlang C formula (M/M/2). In D/D/1,
// no event waits.
func TestStation_QueueWithKnownFormula_MeanWaitMatchesTheFormula(t *testing.T) {
	t.Parallel()
	for _, load := range []float64{.3, .6, .8} {
		exponential := func(seed uint64) func() float64 { return poisson(newRandom(seed), 1) }
		for name, tt := range map[string]struct {
			s    station
			want float64
		}{
			"M/M/1": {station{servers: 1, gap: poisson(newRandom(1), load), service: exponential(2)}, load / (1 - load)},
			"M/D/1": {station{servers: 1, gap: poisson(newRandom(3), load), service: always(1)}, load / (1 - load) / 2},
			"M/M/2": {station{servers: 2, gap: poisson(newRandom(4), 2*load), service: exponential(5)}, load * load / (1 - load*load)},
			"D/D/1": {station{servers: 1, gap: evenly(load), service: always(1)}, 0},
		} {
			const events = 1_000_000
			sum, waiting := 0.0, 0
			tt.s.run(events, func(v visit) bool {
				sum += v.wait
				waiting += v.waiting
				return true
			})
			near(t, name+": mean wait", sum/events, tt.want, .04)
			// By Little's law, the mean number of waiting events is the rate times the mean wait. Poisson arrivals find
			// this mean number (PASTA). The name of a queue with Poisson arrivals begins with "M".
			if strings.HasPrefix(name, "M") {
				rate := load * float64(tt.s.servers)
				near(t, name+": mean number of waiting events", float64(waiting)/events, rate*tt.want, .04)
			}
		}
	}
}

func TestPredict_AtMeasuredUtilization_ReturnsMeasuredLatency(t *testing.T) {
	t.Parallel()
	c := testCosts()
	for _, p := range c.Points[1:4] {
		got := c.Predict(Scenario{Rate: p.Rate(), Capacity: 20_000, Partitions: 1, Seed: 1})
		near(t, "p50", got.EndToEnd.P50, p.EndToEnd.Quantile(.5).Seconds(), .05)
		near(t, "p99", got.EndToEnd.P99, p.EndToEnd.Quantile(.99).Seconds(), .05)
		near(t, "events in flight", got.EventsInFlight, p.Rate()*p.EndToEnd.Mean().Seconds(), .05)
		if got.Extrapolated {
			t.Errorf("%g events/s are extrapolated", p.Rate())
		}
	}
}

func TestPredict_HigherUtilization_LatencyIsHigher(t *testing.T) {
	t.Parallel()
	c, last := testCosts(), 0.0
	for _, utilization := range []float64{.05, .1, .2, .3, .45, .6, .8, .9} {
		p := c.Predict(Scenario{Rate: 20_000 * utilization, Capacity: 20_000, Partitions: 2, Seed: 1})
		if p.EndToEnd.P99 <= last {
			t.Errorf("p99 is %g at a utilization of %g, want more than %g, which is the p99 at the next lower utilization", p.EndToEnd.P99, utilization, last)
		}
		last = p.EndToEnd.P99
		// Above half of the highest rate, testCosts has no latencies that Predict uses.
		if p.Extrapolated != (utilization > .5) {
			t.Errorf("extrapolated is %v at a utilization of %g", p.Extrapolated, utilization)
		}
	}
}

func TestPredict_Outage_AgreesWithFluidModel(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{100, 10_000, 300_000} {
		for _, outage := range []time.Duration{10 * time.Second, time.Hour} {
			for _, partitions := range []int{1, 10} {
				p := testCosts().Predict(Scenario{
					Rate: rate, Capacity: rate / .6, Partitions: partitions, Outage: outage, Seed: 1,
				})
				near(t, "backlog", p.OutageBacklog, rate*outage.Seconds(), .15)
				near(t, "recovery", p.RecoverySeconds, outage.Seconds()*.6/.4, .15)
			}
		}
	}
}

func TestPredict_FastDrain_ShortensTheRecovery(t *testing.T) {
	t.Parallel()
	c := testCosts()
	s := Scenario{Rate: 5000, Capacity: 10_000, Partitions: 1, Outage: time.Minute, Seed: 1}
	near(t, "recovery", c.Predict(s).RecoverySeconds, 60, .05)
	c.DrainPerSecond *= 2
	near(t, "recovery", c.Predict(s).RecoverySeconds, 20, .05)
}

func TestPredict_RateAboveCapacity_BacklogGrows(t *testing.T) {
	t.Parallel()
	p := testCosts().Predict(Scenario{Rate: 1200, Capacity: 1000, Partitions: 1})
	if p.Sustained || p.BacklogGrowthPerSecond != 200 {
		t.Errorf("prediction is %+v", p)
	}
}

func TestPredict_SameSeed_SamePrediction(t *testing.T) {
	t.Parallel()
	predict := func(seed uint64) Prediction {
		return testCosts().Predict(Scenario{Rate: 9000, Capacity: 20_000, Partitions: 3, Outage: time.Minute, Seed: seed})
	}
	if a, b := predict(1), predict(1); a != b {
		t.Errorf("predictions differ: %+v, %+v", a, b)
	}
	if a, b := predict(1), predict(2); a == b {
		t.Error("the seed has no effect")
	}
}

func recorded[T any](t *testing.T, path string) (measurements T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &measurements); err != nil {
		t.Fatal(err)
	}
	return measurements
}

// The test compares recorded predictions with measurements. docs/sizing.md states the tolerance. A test in test/bench
// checks that the current model still makes these predictions.
func TestCheck_RecordedPredictions_AreWithinTheTolerance(t *testing.T) {
	t.Parallel()
	check := recorded[Check](t, "testdata/check.json")
	costs, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	if len(check.Rows) == 0 || !check.MeasuredAt.Equal(costs.MeasuredAt) {
		t.Errorf("%d predictions were checked on %s, want at least one on %s, when the costs were measured: run make bench-costs",
			len(check.Rows), check.MeasuredAt, costs.MeasuredAt)
	}
	for _, row := range check.Rows {
		if !row.WithinTolerance() {
			t.Errorf("at %d events/s, %s was predicted to be %.3g and measured as %.3g, want a difference of at most %.0f %%: "+
				"correct the model, or run make bench-costs on an idle machine", row.EventsPerSecond, row.Figure, row.Predicted, row.Measured, percent*Tolerance)
		}
	}
}

// The test compares a sentence in docs/sizing.md with the measurements.
func TestScaling_RecordedThroughput_GrowsAsTheDocumentationSays(t *testing.T) {
	t.Parallel()
	const sentence = "The throughput grows slightly more than the number of partitions."
	if docs, err := os.ReadFile("../../docs/sizing.md"); err != nil || !strings.Contains(string(docs), sentence) {
		t.Errorf("docs/sizing.md does not contain %q (%v): if you have changed the sentence, change this test", sentence, err)
	}
	s := recorded[Scaling](t, "testdata/partitions.json")
	counts := []int{1, 2, 4, 8}
	if len(s.Rows) != len(counts) {
		t.Fatalf("%d numbers of partitions were measured, want %v", len(s.Rows), counts)
	}
	const slightly = 1.2
	for i, row := range s.Rows {
		if row.Partitions != counts[i] || row.Processors != counts[i] {
			t.Errorf("row %d has %d partitions and %d processors, want %d of each", i, row.Partitions, row.Processors, counts[i])
		}
		growth := row.EventsPerSecond / s.Rows[0].EventsPerSecond
		if most := slightly * float64(counts[i]); i > 0 && (growth <= float64(counts[i]) || growth > most) {
			t.Errorf("the throughput with %d partitions is %.2f times that with one, want more than %d and at most %.1f times: "+
				"correct the program, or the sentence in docs/sizing.md", counts[i], growth, counts[i], most)
		}
	}
}

func TestWithinTolerance_RatioNearTheBounds_IsTrueOnlyBetweenTheBounds(t *testing.T) {
	t.Parallel()
	const little = .01
	for ratio, want := range map[float64]bool{
		1 - Tolerance - little: false, 1 - Tolerance + little: true, 1: true, 1 + Tolerance - little: true, 1 + Tolerance + little: false,
	} {
		if row := (Compared{Predicted: ratio * 50, Measured: 50}); row.WithinTolerance() != want {
			t.Errorf("a ratio of %g is within the tolerance: %t, want %t", ratio, !want, want)
		}
	}
	if row := new(Compared); row.WithinTolerance() {
		t.Error("a row without a measurement is within the tolerance")
	}
}

func TestCostsBusy_OtherProgramsOrLowPriority_IsTrue(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		others []float64 // for each measurement, the number of cores that other programs used
		nice   int
		want   bool
	}{
		"idle machine": {others: []float64{.1, .5}, want: false},
		"other programs used more than half a core": {others: []float64{.1, .6, .1}, want: true},
		"low priority": {others: []float64{0}, nice: 5, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			costs := Costs{Machine: Machine{Cores: 2}, Method: Method{Nice: tt.nice}}
			for _, cores := range tt.others {
				costs.Points = append(costs.Points, Point{OtherCores: cores})
			}
			if got := costs.Busy(); got != tt.want {
				t.Errorf("Busy() is %t, want %t", got, tt.want)
			}
		})
	}
}
