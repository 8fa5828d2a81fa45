package report

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// steady returns the report of a run whose latencies vary around a typical value. If spike is not 0, it is the
// typical value during 10 seconds of the run.
func steady(seed uint64, seconds int, latency, spike time.Duration, lost int64) *Document {
	random := rand.New(rand.NewPCG(seed, seed))
	var all histogram.Histogram
	rows := make([]timeline.Row, seconds)
	for i := range rows {
		typical := latency
		if spike > 0 && i >= 20 && i < 30 {
			typical = spike
		}
		var h histogram.Histogram
		for range 100 {
			d := time.Duration(float64(typical) * (0.5 + random.ExpFloat64()/2))
			h.Observe(d)
			all.Observe(d)
		}
		rows[i] = timeline.Row{
			Second: start().Unix() + int64(i),
			Entry:  timeline.Events{Due: 200, Published: 200, EndToEnd: h.Snapshot(), Processing: h.Snapshot()},
			Exit:   timeline.Events{Due: 180, Published: 180},
		}
	}
	l := ledger.Report{AtRest: true, Lost: lost, MissingEntries: lost}
	measured := LatencyOf(all.Snapshot())
	d := New(Run{
		Verdict: ledger.Evaluate(ledger.Evidence{Report: l}), Simulation: "default.s", StartTime: start(), ElapsedSeconds: float64(seconds), Ledger: &l,
		Rates:          Rates{Entry: Rate{Target: 200, Achieved: 200}, Exit: Rate{Target: 180, Achieved: 180}},
		LatencySeconds: Latencies{Processing: measured, EndToEnd: measured},
	}, Environment{Redis: "Redis 7.4.1", Manifest: json.RawMessage(`{"spec":{"entry":{"rate":200}}}`)}, rows)
	return &d
}

// outcomeOf returns the outcome of the metric with the given key.
func outcomeOf(t *testing.T, c *Comparison, key string) ChangeOutcome {
	t.Helper()
	for _, m := range c.Metrics {
		if m.Key == key {
			return m.Outcome
		}
	}
	t.Fatalf("there is no metric %q", key)
	return ""
}

func TestCompare_ClassifiesChanges(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	before := steady(1, 120, 10*ms, 0, 0)
	unmeasured := steady(2, 120, 10*ms, 0, 0)
	unmeasured.LatencySeconds = Latencies{}
	noTimeline := steady(2, 120, 20*ms, 0, 0)
	noTimeline.Timeline = nil
	for name, tt := range map[string]struct {
		after      *Document
		key        string
		want       ChangeOutcome
		regression bool
	}{
		"the same run":                    {before, "endToEnd.p99", Unchanged, false},
		"another run of the same":         {steady(2, 120, 10*ms, 0, 0), "endToEnd.p99", Unchanged, false},
		"a slower run":                    {steady(2, 120, 20*ms, 0, 0), "endToEnd.p99", Regression, true},
		"a faster run":                    {steady(2, 120, 5*ms, 0, 0), "endToEnd.p50", Improved, false},
		"a single bad window":             {steady(2, 120, 10*ms, 100*ms, 0), "endToEnd.p99", Noise, false},
		"a slower run of 3 s":             {steady(2, 3, 20*ms, 0, 0), "endToEnd.p99", Undecided, false},
		"a slower run of 30 s":            {steady(2, 30, 20*ms, 0, 0), "endToEnd.p99", Regression, true},
		"a slower run without a timeline": {noTimeline, "endToEnd.p99", Undecided, false},
		"a latency that is not measured":  {unmeasured, "endToEnd.p99", Regression, true},
		"a lost event":                    {steady(2, 120, 10*ms, 0, 1), "lost", Regression, true},
	} {
		got := Compare(before, tt.after, nil)
		if outcome := outcomeOf(t, got, tt.key); outcome != tt.want || got.Regression != tt.regression {
			t.Errorf("%s: %s is %q, regression %v; want %q and %v\n%s", name, tt.key, outcome, got.Regression, tt.want, tt.regression, got.Markdown())
		}
	}
}

func TestCompare_RunsOfTheSameSimulation_RarelyDiffer(t *testing.T) {
	t.Parallel()
	strict := map[string]float64{"endToEnd.p99": 0, "endToEnd.p50": 0}
	regressions := 0
	for seed := range uint64(20) {
		before, after := steady(2*seed, 60, 10*time.Millisecond, 0, 0), steady(2*seed+1, 60, 10*time.Millisecond, 0, 0)
		if Compare(before, after, strict).Regression {
			regressions++
		}
	}
	if regressions > 1 {
		t.Errorf("%d of 20 comparisons of equal runs find a regression even without any threshold, want at most 1", regressions)
	}
}

func TestCompare_CustomThreshold_ReplacesTheDefault(t *testing.T) {
	t.Parallel()
	before, after := steady(1, 120, 10*time.Millisecond, 0, 0), steady(2, 120, 13*time.Millisecond, 0, 0)
	for threshold, want := range map[float64]ChangeOutcome{.1: Regression, .5: Unchanged} {
		if got := outcomeOf(t, Compare(before, after, map[string]float64{"endToEnd.p50": threshold}), "endToEnd.p50"); got != want {
			t.Errorf("with a threshold of %v the outcome is %q, want %q", threshold, got, want)
		}
	}
}

func TestCompare_RateBelowItsTarget_IsARegression(t *testing.T) {
	t.Parallel()
	before, after := steady(1, 120, time.Millisecond, 0, 0), steady(2, 120, time.Millisecond, 0, 0)
	after.Rates.Entry.Achieved = 150
	for i := range after.Timeline {
		after.Timeline[i].Entry.Published = 150
	}
	if got := Compare(before, after, nil); outcomeOf(t, got, "entry.achieved") != Regression {
		t.Errorf("publishing 150 of 200 events is no regression:\n%s", got.Markdown())
	}
}

func TestCompare_SlowerOrMissingRecoveryFromFaults_IsARegression(t *testing.T) {
	t.Parallel()
	// run returns the report of a run with occurrences of two faults. The arguments are the recovery times, in
	// seconds, of the occurrences of the first fault. A negative value means that the simulation did not recover.
	run := func(recoveries ...float64) *Document {
		d := steady(1, 60, 10*time.Millisecond, 0, 0)
		add := func(name string, number int, seconds float64) {
			a := fault.Account{Fault: name, Number: number, Outcome: fault.OutcomeRecovered, RecoverySeconds: &seconds}
			if seconds < 0 {
				a.Outcome, a.RecoverySeconds = fault.OutcomeNotRecovered, nil
			}
			d.Faults = append(d.Faults, a)
		}
		for i, seconds := range recoveries {
			add("redis-crash", i, seconds)
		}
		add("freeze", 0, 1)
		return d
	}
	const recovery, unrecovered = "fault.redis-crash.recovery", "fault.redis-crash.unrecovered"
	many := run(8, 9, 10, 11, 12, 13)
	for name, tt := range map[string]struct {
		before, after *Document
		key           string
		want          ChangeOutcome
		regression    bool
	}{
		"the same recovery":                      {run(10), run(10), recovery, Unchanged, false},
		"a change below the threshold":           {run(20), run(28), recovery, Unchanged, false},
		"a change of less than 5 s":              {run(1), run(5.5), recovery, Unchanged, false},
		"a slower recovery of a single fault":    {run(10), run(30), recovery, Regression, true},
		"a faster recovery":                      {run(30), run(10), recovery, Improved, false},
		"many recoveries that are slower":        {many, run(28, 29, 30, 31, 32, 33), recovery, Regression, true},
		"many recoveries of which some are slow": {many, run(8, 9, 30, 30, 30, 10), recovery, Noise, false},
		"no recovery any more":                   {run(10), run(-1), recovery, Regression, true},
		"an occurrence without recovery":         {run(10, 10), run(10, -1), unrecovered, Regression, true},
		"an occurrence with recovery":            {run(10, -1), run(10, 10), unrecovered, Improved, false},
		"another fault is not affected":          {run(10), run(30), "fault.freeze.recovery", Unchanged, true},
	} {
		got := Compare(tt.before, tt.after, nil)
		if outcome := outcomeOf(t, got, tt.key); outcome != tt.want || got.Regression != tt.regression {
			t.Errorf("%s: %s is %q, regression %v; want %q and %v\n%s", name, tt.key, outcome, got.Regression, tt.want, tt.regression, got.Markdown())
		}
	}
	if got := outcomeOf(t, Compare(run(10), run(30), map[string]float64{"recovery": 3}), recovery); got != Unchanged {
		t.Errorf("with a threshold of 300 %% the outcome is %q", got)
	}
	// A fault that occurred in only one run cannot be compared.
	if c := Compare(steady(1, 60, 10*time.Millisecond, 0, 0), run(10), nil); len(c.Metrics) != len(metrics()) || c.Regression {
		t.Errorf("a new fault changes %+v", c.Metrics)
	}
}

func TestCompare_ListsChecksAndSettingsThatDiffer(t *testing.T) {
	t.Parallel()
	before, after := steady(1, 60, time.Millisecond, 0, 0), steady(1, 60, time.Millisecond, 0, 2)
	after.Environment.Redis = "Redis 8.0.0"
	after.Environment.Manifest = json.RawMessage(`{"spec":{"entry":{"rate":300}}}`)
	c := Compare(before, after, nil)
	if len(c.Checks) != 1 || c.Checks[0] != (Differs{"lost events", "passed", "failed"}) {
		t.Errorf("the checks that differ are %+v", c.Checks)
	}
	want := []Differs{{"manifest.spec.entry.rate", "200", "300"}, {"redis", "Redis 7.4.1", "Redis 8.0.0"}}
	if len(c.Settings) != 2 || c.Settings[0] != want[0] || c.Settings[1] != want[1] {
		t.Errorf("the settings that differ are %+v, want %+v", c.Settings, want)
	}
	for name, render := range map[string]func() ([]byte, error){
		"comparison.json": c.JSON,
		"comparison.html": c.HTML,
		"comparison.md":   func() ([]byte, error) { return c.Markdown(), nil },
	} {
		text, err := render()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, text)
		if !bytes.Contains(text, []byte("Redis 8.0.0")) {
			t.Errorf("%s does not show a setting that differs", name)
		}
	}
}

func TestCompare_TimelineWithHugeGap_UsesBoundedMemory(t *testing.T) {
	t.Parallel()
	d, err := Read(strings.NewReader(`{"version":1,"verdict":"PASS","elapsedSeconds":1e11,
		"latencySeconds":{"endToEnd":{"p50":1,"p99":1,"mean":1}},"timeline":[{"t":1},{"t":200000000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	slow := *d
	slow.LatencySeconds.EndToEnd = &Latency{P50: 9, P99: 9, Mean: 9}
	if _, err := Compare(d, &slow, nil).HTML(); err != nil {
		t.Fatal(err)
	}
}
