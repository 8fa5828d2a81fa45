package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/goldentest"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// steady returns the report of a run whose latencies vary around the given latency. If spike is not 0, they vary around
// spike during 10 s of the run.
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

func TestCompareReports_MetricChanges_OutcomeTellsRegressionsFromNoise(t *testing.T) {
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

func TestCompareReports_RunsOfTheSameSimulation_RarelyDiffer(t *testing.T) {
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

func TestCompareReports_CustomThreshold_ReplacesTheDefault(t *testing.T) {
	t.Parallel()
	before, after := steady(1, 120, 10*time.Millisecond, 0, 0), steady(2, 120, 13*time.Millisecond, 0, 0)
	for threshold, want := range map[float64]ChangeOutcome{.1: Regression, .5: Unchanged} {
		if got := outcomeOf(t, Compare(before, after, map[string]float64{"endToEnd.p50": threshold}), "endToEnd.p50"); got != want {
			t.Errorf("with a threshold of %v the outcome is %q, want %q", threshold, got, want)
		}
	}
}

func TestCompareReports_RateBelowItsTarget_IsARegression(t *testing.T) {
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

func TestCompareReports_SlowerOrMissingRecoveryFromFaults_IsARegression(t *testing.T) {
	t.Parallel()
	// run returns the report of a run with the given recovery times from redis-crash, in seconds. A negative value
	// stands for no recovery.
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
	without := steady(1, 60, 10*time.Millisecond, 0, 0)
	if c := Compare(without, run(-1), nil); outcomeOf(t, c, recovery) != Unchanged || outcomeOf(t, c, unrecovered) != Unchanged || c.Regression {
		t.Errorf("a new fault is a regression:\n%s", c.Markdown())
	}
	if c := Compare(run(10), without, nil); outcomeOf(t, c, recovery) != Regression || outcomeOf(t, c, unrecovered) != Regression || !c.Regression {
		t.Errorf("a fault that is no longer injected is no regression:\n%s", c.Markdown())
	}
}

func TestCompareReports_ChecksAndSettingsDiffer_AreListed(t *testing.T) {
	t.Parallel()
	before, after := steady(1, 60, time.Millisecond, 0, 0), steady(1, 60, time.Millisecond, 0, 2)
	after.Environment.Redis = "Redis 8.0.0"
	after.StartTime = after.StartTime.Add(time.Hour)
	after.Environment.Manifest = json.RawMessage(`{"spec":{"entry":{"rate":300}}}`)
	c := Compare(before, after, nil)
	if len(c.Checks) != 1 || c.Checks[0] != (CheckChange{"lost events", "passed", "failed", Regression}) {
		t.Errorf("the checks that differ are %+v", c.Checks)
	}
	want := []Values{{"manifest.spec.entry.rate", "200", "300"}, {"redis", "Redis 7.4.1", "Redis 8.0.0"}}
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
		goldentest.Compare(t, name, text)
		if !bytes.Contains(text, []byte("Redis 8.0.0")) {
			t.Errorf("%s does not show a setting that differs", name)
		}
	}
}

func TestCompareReports_TimelineWithHugeGap_UsesBoundedMemory(t *testing.T) {
	t.Parallel()
	d := sample()
	d.ElapsedSeconds = maxNumber
	d.Timeline = []timeline.Row{{Second: 1}, {Second: latest().Unix()}}
	slow := *d
	slow.LatencySeconds.EndToEnd = &Latency{P50: 9, P99: 9, Mean: 9}
	if _, err := Compare(d, &slow, nil).HTML(); err != nil {
		t.Fatal(err)
	}
}

func TestCompareReports_FaultWithoutRecovery_IsARegression(t *testing.T) {
	t.Parallel()
	run := func(o fault.Outcome) *Document {
		d := steady(1, 60, 10*time.Millisecond, 0, 0)
		a := fault.Account{Fault: "kill", Outcome: o}
		if o == fault.OutcomeRecovered {
			a.RecoverySeconds = new(3.0)
		}
		d.Faults = []fault.Account{a}
		return d
	}
	recovered := run(fault.OutcomeRecovered)
	for _, bad := range []fault.Outcome{fault.OutcomeNotRecovered, fault.OutcomeNotInjected, fault.OutcomeAborted} {
		const key = "fault.kill.unrecovered"
		if c := Compare(recovered, run(bad), nil); outcomeOf(t, c, key) != Regression || !c.Regression {
			t.Errorf("from Recovered to %s is no regression:\n%s", bad, c.Markdown())
		}
		if c := Compare(run(bad), recovered, nil); outcomeOf(t, c, key) != Improved || c.Regression {
			t.Errorf("from %s to Recovered is no improvement:\n%s", bad, c.Markdown())
		}
	}
}

func TestCompareReports_ChecksMissingInNewReport_AreRegressionsIfTheyPassedBefore(t *testing.T) {
	t.Parallel()
	passed := steady(1, 60, time.Millisecond, 0, 0)
	failed := steady(1, 60, time.Millisecond, 0, 2)
	without := func(d *Document, name string) *Document {
		c := *d
		c.Checks = slices.DeleteFunc(slices.Clone(d.Checks), func(c ledger.Check) bool { return name == "" || c.Name == name })
		return &c
	}
	const lost = "lost events"
	for name, tt := range map[string]struct {
		before, after *Document
		want          CheckChange
		regression    bool
	}{
		"a check that passed is missing":       {passed, without(passed, lost), CheckChange{lost, "passed", MissingCheck, Regression}, true},
		"all checks are missing":               {passed, without(passed, ""), CheckChange{lost, "passed", MissingCheck, Regression}, true},
		"a check that failed is missing":       {failed, without(failed, lost), CheckChange{lost, "failed", MissingCheck, Unchanged}, false},
		"a check that passes is new":           {without(passed, lost), passed, CheckChange{lost, MissingCheck, "passed", Unchanged}, false},
		"a check that failed passes":           {failed, passed, CheckChange{lost, "failed", "passed", Improved}, false},
		"a check that fails is new after PASS": {without(passed, lost), failed, CheckChange{lost, MissingCheck, "failed", Unchanged}, true},
	} {
		c := Compare(tt.before, tt.after, nil)
		if !slices.Contains(c.Checks, tt.want) || c.Regression != tt.regression {
			t.Errorf("%s: regression %v, %+v", name, c.Regression, c.Checks)
		}
	}
	unknown := *passed
	unknown.Ledger = nil
	if c := Compare(passed, &unknown, nil); !c.Regression || outcomeOf(t, c, "lost") != Regression {
		t.Errorf("a missing ledger is no regression:\n%s", c.Markdown())
	}
}

func TestCompareReports_Renderings_ShowThresholdsAndReasons(t *testing.T) {
	t.Parallel()
	before := steady(1, 60, 10*time.Microsecond, 0, 0)
	c := Compare(before, steady(2, 60, 40*time.Microsecond, 0, 0), nil)
	text := string(c.Markdown())
	for _, want := range []string{"|25 % and 100 µs|unchanged|within 100 µs|", "|50 % and 100 ms|", "|2 %|", "|any|"} {
		if !strings.Contains(text, want) {
			t.Errorf("the comparison does not show %q:\n%s", want, text)
		}
	}
	encoded, err := c.JSON()
	if err != nil || !bytes.Contains(encoded, []byte(`"floor": 0.0001,`)) || !bytes.Contains(encoded, []byte(`"reason": "within 100 µs"`)) {
		t.Errorf("the JSON does not show the limit or the reason, %v:\n%s", err, encoded)
	}
}

func TestCompareReports_RunCutShort_ReportsNoRegressionCausedByTheCut(t *testing.T) {
	t.Parallel()
	run := func(lost int64, cutShort string, checks ...ledger.Check) *Document {
		d := steady(1, 60, 10*time.Millisecond, 0, lost)
		d.CutShort, d.Checks, d.Outcome = cutShort, checks, ledger.Pass
		for _, c := range checks {
			if c.Outcome != ledger.Passed {
				d.Outcome = ledger.Fail
			}
		}
		return d
	}
	check := func(name string, o ledger.CheckOutcome) ledger.Check { return ledger.Check{Name: name, Outcome: o} }
	unread := run(0, "the run was cut short after 0:12 of 1:00", check("ledger readable", ledger.NotMeasured))
	unread.Ledger = nil
	const fault, cut = "fault late", "the run was cut short after 0:12 of 1:00"
	for name, tt := range map[string]struct {
		before, after *Document
		regression    bool
		lost          ChangeOutcome
	}{
		"a fault was still to come": {run(0, "", check(fault, ledger.Passed)), run(0, cut, check(fault, ledger.NotMeasured)), false, Unchanged},
		"a fault was in effect":     {run(0, "", check(fault, ledger.Passed)), run(0, cut, check(fault, ledger.Failed)), false, Unchanged},
		"fewer events were lost":    {run(2, ""), run(1, cut), false, Undecided},
		"the ledger is unreadable":  {run(0, "", check("ledger readable", ledger.Passed)), unread, true, Regression},
		"an event was lost":         {run(0, "", check("lost events", ledger.Passed)), run(1, cut, check("lost events", ledger.Failed)), true, Regression},
	} {
		c := Compare(tt.before, tt.after, nil)
		if got := outcomeOf(t, c, "lost"); c.Regression != tt.regression || got != tt.lost || strings.HasPrefix(c.Headline(), "regression") != tt.regression {
			t.Errorf("%s: regression %v, lost events %s; want %v, %s\n%s", name, c.Regression, got, tt.regression, tt.lost, c.Markdown())
		}
		if want := "in the second report, " + cut + ":"; !slices.ContainsFunc(c.Notes, func(n string) bool { return strings.HasPrefix(n, want) }) {
			t.Errorf("%s: the notes are %q", name, c.Notes)
		}
	}
}

func TestChangeRelativeText_DecreaseRoundsToZero_HasNoMinusSign(t *testing.T) {
	t.Parallel()
	for relative, want := range map[float64]string{-0.0001: "+0.0 %", 0: "+0.0 %", -0.1234: "-12.3 %", 0.0006: "+0.1 %"} {
		if got := (&Change{Relative: &relative}).RelativeText(); got != want {
			t.Errorf("%g is shown as %q, want %q", relative, got, want)
		}
	}
}

func TestCompareReports_Notes_SayWhatLimitsTheComparison(t *testing.T) {
	t.Parallel()
	run := func(rate int) *Document {
		d := steady(uint64(rate), 60, time.Millisecond, 0, 0)
		d.Environment.Manifest = fmt.Appendf(nil, `{"spec":{"entry":{"rate":%d}}}`, rate)
		d.StartTime = d.StartTime.Add(time.Duration(rate) * time.Minute)
		return d
	}
	if c := Compare(run(200), run(100), nil); len(c.Notes) != 1 || !strings.HasPrefix(c.Notes[0], "the runs had different settings: entry.rate (before: 200; after: 100)") {
		t.Errorf("the notes on half the rate are %q", c.Notes)
	}
	if c := Compare(run(200), run(200), nil); len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "the same run") || !strings.Contains(string(c.Markdown()), c.Notes[0]) {
		t.Errorf("the notes on the same run are %q", c.Notes)
	}
	later := run(200)
	later.StartTime = later.StartTime.Add(time.Hour)
	if c := Compare(run(200), later, nil); len(c.Notes) != 0 {
		t.Errorf("the notes on two runs with the same settings are %q", c.Notes)
	}
	onServers, inMemory := run(200), run(200)
	onServers.Environment.RabbitMQ, inMemory.Environment.RabbitMQ = "RabbitMQ 4.0.5", InMemory
	inMemory.StartTime = inMemory.StartTime.Add(time.Hour)
	if c := Compare(onServers, inMemory, nil); len(c.Notes) != 1 || !strings.HasPrefix(c.Notes[0], "only one of the runs used servers") {
		t.Errorf("the notes on a run on servers and a run in memory are %q", c.Notes)
	}
}

func TestCompareReports_DifferentEnvironments_NoteSaysWhatDiffers(t *testing.T) {
	t.Parallel()
	small, large := Node{Name: "a", CPUs: 4, MemoryBytes: 16 << 30}, Node{Name: "b", CPUs: 8, MemoryBytes: 32 << 30}
	renamed := small
	renamed.Name = "c"
	full := Environment{RabbitMQ: "RabbitMQ 4.1.2", Redis: "Redis 7.4.1", Kubernetes: "v1.36.1", Nodes: []Node{small, small, large}}
	with := func(edit func(*Environment)) Environment {
		e := full
		e.Nodes = slices.Clone(full.Nodes)
		edit(&e)
		return e
	}
	for name, tt := range map[string]struct {
		after Environment
		want  string
	}{
		"the same":                   {full, ""},
		"another version of parking": {with(func(e *Environment) { e.Parking = "v2" }), ""},
		"other names of machines":    {with(func(e *Environment) { e.Nodes = []Node{large, renamed, renamed} }), ""},
		"an unknown environment":     {Environment{}, ""},
		"another RabbitMQ":           {with(func(e *Environment) { e.RabbitMQ = "RabbitMQ 4.2.0" }), "RabbitMQ (before: RabbitMQ 4.1.2; after: RabbitMQ 4.2.0)"},
		"another Redis":              {with(func(e *Environment) { e.Redis = "Valkey 8.1.3" }), "Redis (before: Redis 7.4.1; after: Valkey 8.1.3)"},
		"another Kubernetes":         {with(func(e *Environment) { e.Kubernetes = "v1.37.0" }), "Kubernetes (before: v1.36.1; after: v1.37.0)"},
		"another machine":            {with(func(e *Environment) { e.Nodes = []Node{large} }), "machines (before: 2 × 4 CPUs, 16 GiB and 1 × 8 CPUs, 32 GiB; after: 8 CPUs, 32 GiB)"},
		"no servers and another machine": {with(func(e *Environment) {
			e.RabbitMQ, e.Redis, e.Kubernetes, e.Nodes = InMemory, InMemory, "", []Node{small}
		}), "machines (before: 2 × 4 CPUs, 16 GiB and 1 × 8 CPUs, 32 GiB; after: 4 CPUs, 16 GiB)"},
		"two versions": {
			with(func(e *Environment) { e.Redis, e.Kubernetes = "Redis 8", "v1.37.0" }),
			"Redis (before: Redis 7.4.1; after: Redis 8), Kubernetes (before: v1.36.1; after: v1.37.0)",
		},
	} {
		before, after := steady(1, 60, time.Millisecond, 0, 0), steady(2, 60, time.Millisecond, 0, 0)
		before.Environment, after.Environment = full, tt.after
		after.StartTime = after.StartTime.Add(time.Hour)
		c := Compare(before, after, nil)
		const prefix, suffix = "the runs had different environments: ", "; a change of a metric may result from the environment and not from the software"
		want := []string{prefix + tt.want + suffix}
		if tt.want == "" {
			want = nil
		}
		got := slices.DeleteFunc(slices.Clone(c.Notes), func(n string) bool { return !strings.HasPrefix(n, prefix) })
		if !slices.Equal(got, want) || c.Regression {
			t.Errorf("%s: regression %v, the notes are %q, want %q", name, c.Regression, c.Notes, want)
		}
		encoded, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		html, err := c.HTML()
		if err != nil {
			t.Fatal(err)
		}
		for format, text := range map[string][]byte{"Markdown": c.Markdown(), "JSON": encoded, "HTML": html} {
			if !bytes.Contains(text, []byte(tt.want)) {
				t.Errorf("%s: %s does not contain %q", name, format, tt.want)
			}
		}
	}
}

func TestCompareReports_ManyKindsOfMachines_NoteIsBounded(t *testing.T) {
	t.Parallel()
	var nodes []Node
	for i := range 50 {
		nodes = append(nodes, Node{CPUs: int64(10 + i)})
	}
	const want = "1 × 10 CPUs and 1 × 11 CPUs and 1 × 12 CPUs and 1 × 13 CPUs and 1 × 14 CPUs and 45 more"
	if got := machines(nodes); got != want {
		t.Errorf("the machines are %q, want %q", got, want)
	}
}

func TestCompareReports_RowsOfDifferentWidths_AreMergedToTheWiderWidth(t *testing.T) {
	t.Parallel()
	full, bounded := steady(1, 600, 10*time.Millisecond, 0, 0), steady(2, 600, 10*time.Millisecond, 0, 0)
	random := rand.New(rand.NewPCG(3, 3))
	for _, d := range []*Document{full, bounded} {
		for i := range d.Timeline {
			// The maximum of these lags grows with the width of the rows.
			d.Timeline[i].Entry.Lag = time.Duration(200 * math.Pow(random.Float64(), 10) * float64(10*time.Millisecond))
		}
	}
	full.Rates.Entry.MaxLagSeconds, bounded.Rates.Entry.MaxLagSeconds = 2, 3
	bounded.Timeline = timeline.Merge(60, bounded.Timeline...)
	if c := Compare(full, bounded, map[string]float64{"entry.maxLag": 0}); outcomeOf(t, c, "entry.maxLag") == Regression {
		t.Errorf("a report with rows of 60 s has a regression:\n%s", c.Markdown())
	}
}

// Both reports contain only the worst occurrence. Only the totals show that the second run has one more occurrence
// without recovery.
func TestCompareReports_TotalsHaveOneMoreUnrecoveredFault_IsARegression(t *testing.T) {
	t.Parallel()
	run := func(unrecovered int64) *Document {
		d := steady(1, 60, 10*time.Millisecond, 0, 0)
		d.Faults = []fault.Account{{Fault: "kill", Outcome: fault.OutcomeNotRecovered}}
		d.FaultsOmitted = 1000
		d.FaultTotals = []fault.Total{{Fault: "kill", Result: fault.Result{NotRecovered: unrecovered, Recovered: 1001 - unrecovered}}}
		return d
	}
	if c := Compare(run(1), run(2), nil); outcomeOf(t, c, "fault.kill.unrecovered") != Regression {
		t.Errorf("one more is no regression:\n%s", c.Markdown())
	}
}

func TestCompareReports_FaultsOmittedFromReport_RecoveryIsUndecided(t *testing.T) {
	t.Parallel()
	run := func(seconds float64, omitted int64) *Document {
		d := steady(1, 60, 10*time.Millisecond, 0, 0)
		for i := range 10 {
			recovery := seconds + float64(i)/10
			d.Faults = append(d.Faults, fault.Account{Fault: "f", Number: i, Outcome: fault.OutcomeRecovered, RecoverySeconds: &recovery})
		}
		d.FaultsOmitted = omitted
		return d
	}
	for _, omitted := range [][2]int64{{0, 300}, {300, 0}} {
		if c := Compare(run(10, omitted[0]), run(30, omitted[1]), nil); outcomeOf(t, c, "fault.f.recovery") != Undecided {
			t.Errorf("with %v omitted faults:\n%s", omitted, c.Markdown())
		}
	}
}
