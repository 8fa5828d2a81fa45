package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/perf/benchmath"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Comparison lists the differences between two runs.
type Comparison struct {
	Version int `json:"version"`
	// Regression is true if the verdict, a metric or a check became worse.
	Regression bool  `json:"regression"`
	Before     RunOf `json:"before"`
	After      RunOf `json:"after"`
	// Notes are sentences that say why the comparison may be misleading.
	Notes   []string `json:"notes"`
	Metrics []Change `json:"metrics"`
	// Objectives contains every objective that at least one of the runs has, with the values measured in both runs.
	Objectives []Values      `json:"objectives"`
	Checks     []CheckChange `json:"checks"`
	// Settings contains the settings that differ between the two runs.
	Settings []Values `json:"settings"`
	runs     [2]*Document
}

// RunOf identifies one of the compared runs.
type RunOf struct {
	Simulation string         `json:"simulation"`
	StartTime  time.Time      `json:"startTime,omitzero"`
	Verdict    ledger.Outcome `json:"verdict"`
}

// StartText formats the start time of the run.
func (r RunOf) StartText() string { return timeText(r.StartTime) }

// Change describes how one metric differs between the runs.
type Change struct {
	// Key identifies the metric on the command line. Name is its display name.
	Key  string `json:"key"`
	Name string `json:"name"`
	// Before and After are the values over a whole run, in seconds, as a share or as a count. Nil means that the value
	// was not measured.
	Before *float64 `json:"before"`
	After  *float64 `json:"after"`
	// Relative is the change divided by Before. It is nil if Before is 0 or if a value is missing.
	Relative *float64 `json:"relative,omitempty"`
	// Threshold is the tolerated relative change. Threshold and Floor are nil for a count, of which no increase is
	// tolerated.
	Threshold *float64 `json:"threshold,omitempty"`
	// Floor is the tolerated absolute change, in the unit of the metric. A change matters only if it exceeds both
	// Threshold and Floor.
	Floor *float64 `json:"floor,omitempty"`
	// P is the p-value of the significance test: the probability of at least the observed difference if both runs
	// behave the same. Nil means no test.
	P *float64 `json:"p,omitempty"`
	// Windows contains the numbers of samples in the two runs. A sample is a recovery or a window of the timeline.
	Windows [2]int        `json:"windows,omitzero"`
	Outcome ChangeOutcome `json:"outcome"`
	// Reason explains the outcome, such as "any increase is a regression". It is empty if the value did not change.
	Reason string `json:"reason,omitempty"`

	text    func(float64) string
	samples string // what the samples are: "windows" or "recoveries"
}

// ChangeOutcome says whether a metric became better or worse.
type ChangeOutcome string

// The possible outcomes of the comparison of a metric.
const (
	// Unchanged means that the change is within the threshold, or that the first run did not measure the metric.
	Unchanged ChangeOutcome = "unchanged"
	// Noise means that the change exceeds the threshold, but that the change may be due to chance.
	Noise ChangeOutcome = "noise"
	// Undecided means that the reports do not show whether a change is real, for example because of too few samples.
	Undecided  ChangeOutcome = "undecided"
	Regression ChangeOutcome = "regression"
	Improved   ChangeOutcome = "improved"
)

// CheckChange describes a check whose outcome differs between the runs. If a run did not make the check, the outcome of
// that run is MissingCheck.
type CheckChange struct {
	Name    string        `json:"name"`
	Before  string        `json:"before"`
	After   string        `json:"after"`
	Outcome ChangeOutcome `json:"outcome"`
}

// MissingCheck is the outcome of a check in a run that did not make the check.
const MissingCheck = "missing"

// Values are the values of a setting or an objective in both runs.
type Values struct {
	Name   string `json:"name"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// metric defines one value that Compare compares, and how to compare this value.
type metric struct {
	key, name string
	// total returns the value of the metric over a whole run. It returns false if the value was not measured.
	total func(*Document) (float64, bool)
	// thresholdKey is the key under which callers set the threshold. Metrics can share a key. If it is empty, the key
	// of the metric applies.
	thresholdKey string
	// The function window returns the value of the metric in one section of the run, as a sample. It is nil if the
	// metric has no such values.
	window func(*timeline.Row) (float64, bool)
	// The function recoveries returns the durations of all recoveries from one fault, in seconds. These durations are
	// the samples of the metric. The function is nil if the metric is not a recovery time.
	recoveries func(*Document) []float64
	// threshold is the tolerated relative change, and floor is the tolerated absolute change.
	threshold, floor float64
	higherIsBetter   bool
	text             func(float64) string
}

const (
	percent = 0.01
	// The default thresholds. Medians and shares vary less than other values, so their thresholds are lower.
	medianThreshold   = 15 * percent
	tailThreshold     = 25 * percent
	shareThreshold    = 2 * percent
	lagThreshold      = 50 * percent
	recoveryThreshold = 50 * percent
	// Changes of latencies and lags below these values, in seconds, do not matter.
	latencyFloor = 100e-6
	lagFloor     = 0.1
	// The resolution of the timeline and the timing of pod restarts can change a recovery time by this number of
	// seconds.
	recoveryFloor = 5
)

// metrics returns the metrics that every comparison contains.
func metrics() []metric {
	return slices.Concat(
		latencyMetrics("end-to-end", "endToEnd", func(l *Latencies) *Latency { return l.EndToEnd }, endToEnd),
		latencyMetrics("processing", "processing", func(l *Latencies) *Latency { return l.Processing }, processing),
		rateMetrics(), countMetrics(),
	)
}

// latencyMetrics returns the metrics for the percentiles of one latency. The function whole returns the latency of a
// run, and the function part that of a part of the timeline.
func latencyMetrics(name, key string, whole func(*Latencies) *Latency, part func(*timeline.Events) histogram.Snapshot) []metric {
	percentile := func(suffix string, q, threshold float64, figure func(*Latency) float64) metric {
		return metric{
			key: key + "." + suffix, name: name + " " + suffix, threshold: threshold, floor: latencyFloor, text: secondsText,
			total: func(d *Document) (float64, bool) {
				if l := whole(&d.LatencySeconds); l != nil {
					return figure(l), true
				}
				return 0, false
			},
			window: func(r *timeline.Row) (float64, bool) {
				v := quantile(q, part)(r)
				return v, !math.IsNaN(v)
			},
		}
	}
	return []metric{
		percentile("p50", .50, medianThreshold, func(l *Latency) float64 { return l.P50 }),
		percentile("p99", .99, tailThreshold, func(l *Latency) float64 { return l.P99 }),
	}
}

func secondsText(v float64) string { return terminal.Duration(Seconds(v)) }

func countText(v float64) string { return terminal.Count(int64(v)) }

// rateMetrics returns the metrics that say how well the generators kept to their schedules.
func rateMetrics() []metric {
	var shares, lags []metric
	for _, side := range []struct {
		name, key string
		rate      func(*Rates) Rate
		events    func(*timeline.Row) *timeline.Events
	}{
		{"entries", "entry", func(r *Rates) Rate { return r.Entry }, func(r *timeline.Row) *timeline.Events { return &r.Entry }},
		{"exits", "exit", func(r *Rates) Rate { return r.Exit }, func(r *timeline.Row) *timeline.Events { return &r.Exit }},
	} {
		shares = append(shares, metric{
			key: side.key + ".achieved", name: "due " + side.name + " published", threshold: shareThreshold, higherIsBetter: true, text: shareText,
			total: func(d *Document) (float64, bool) {
				r := side.rate(&d.Rates)
				return r.Achieved / r.Target, r.Target > 0
			},
			window: func(r *timeline.Row) (float64, bool) {
				e := side.events(r)
				return float64(e.Published) / float64(e.Due), e.Due > 0
			},
		})
		lags = append(lags, metric{
			key: side.key + ".maxLag", name: "max lag of " + side.name, threshold: lagThreshold, floor: lagFloor, text: secondsText,
			total:  func(d *Document) (float64, bool) { return side.rate(&d.Rates).MaxLagSeconds, true },
			window: func(r *timeline.Row) (float64, bool) { return side.events(r).Lag.Seconds(), true },
		})
	}
	return append(shares, lags...)
}

// countMetrics returns a metric for each of the ledger's counts that must not increase.
func countMetrics() []metric {
	count := func(name, key string, n func(*ledger.Report) int64) metric {
		return metric{key: key, name: name, text: countText, total: func(d *Document) (float64, bool) {
			if d.Ledger == nil || !d.Ledger.DataKept() {
				return 0, false
			}
			return float64(n(d.Ledger)), true
		}}
	}
	return []metric{
		count(ledger.CheckLost, "lost", func(r *ledger.Report) int64 { return r.Lost }),
		count(ledger.CheckTakenTwice, "takenTwice", func(r *ledger.Report) int64 { return r.TakenTwice }),
		count(ledger.CheckUnexpected, "unmatchedUnexpected", func(r *ledger.Report) int64 { return r.UnmatchedUnexpected }),
		count(ledger.CheckDeadLetters, "deadLettered", func(r *ledger.Report) int64 { return r.DeadLettered }),
	}
}

// ThresholdKeys returns the keys under which Compare accepts thresholds: one for each metric with windows, and one for
// the recovery times of all faults.
func ThresholdKeys() []string {
	var keys []string
	for _, m := range metrics() {
		if m.window != nil {
			keys = append(keys, m.key)
		}
	}
	return append(keys, recoveryKey)
}

// Compare returns the differences between two runs. The keys of thresholds are elements of ThresholdKeys(). The values
// are tolerated relative changes, such as 0.1 for 10 %, and override the defaults.
func Compare(before, after *Document, thresholds map[string]float64) *Comparison {
	c := &Comparison{
		Version: Version, Before: runOf(before), After: runOf(after), runs: [2]*Document{before, after},
		Objectives: objectives(before, after), Checks: changedChecks(before, after), Settings: changedSettings(before, after),
		// The end of a run that was cut short can explain a worse verdict.
		Regression: before.Outcome == ledger.Pass && after.Outcome != ledger.Pass && after.CutShort == "",
	}
	c.Notes = notesOn(c)
	for _, m := range append(metrics(), faultMetrics(before, after)...) {
		if threshold, ok := thresholds[cmp.Or(m.thresholdKey, m.key)]; ok {
			m.threshold = threshold
		}
		change := m.compare(before, after)
		if change.Outcome != Unchanged && c.isMetricUnproved(&m, &change) {
			change.Outcome, change.Reason = Undecided, "a run was cut short"
		}
		c.Metrics = append(c.Metrics, change)
		c.Regression = c.Regression || change.Outcome == Regression
	}
	for i := range c.Checks {
		check := &c.Checks[i]
		if check.Outcome != Unchanged && c.isCheckUnproved(check) {
			check.Outcome = Undecided
		}
		c.Regression = c.Regression || check.Outcome == Regression
	}
	return c
}

// isMetricUnproved reports whether the early end of a run can explain the change of a metric.
func (c *Comparison) isMetricUnproved(m *metric, change *Change) bool {
	isFault := strings.HasPrefix(m.key, faultPrefix)
	lacking := change.After == nil
	if m.isCount() {
		// A run that ended early may have lower counts and fewer faults. Its end does not explain a ledger that is
		// unreadable or incomplete.
		lacking = change.Outcome == Improved || isFault && lacking
	}
	return c.isUnproved(isFault, lacking)
}

// isCheckUnproved reports whether the early end of a run can explain the change of the outcome.
func (c *Comparison) isCheckUnproved(check *CheckChange) bool {
	isFault := ledger.ConcernsFault(check.Name)
	lacking := check.After != string(ledger.Failed) &&
		!slices.Contains([]string{ledger.CheckReadable, ledger.CheckDataKept, ledger.CheckFailures}, check.Name)
	return c.isUnproved(isFault, lacking)
}

// isUnproved reports whether the early end of a run can explain a difference. If isFault is true, the end of either run
// can. If lacking is true, fewer events can cause the difference, and the end of the second run can explain it.
func (c *Comparison) isUnproved(isFault, lacking bool) bool {
	return c.runs[1].CutShort != "" && (isFault || lacking) || c.runs[0].CutShort != "" && isFault
}

func runOf(d *Document) RunOf {
	return RunOf{Simulation: d.Simulation, StartTime: d.StartTime, Verdict: d.Outcome}
}

func (m *metric) compare(before, after *Document) Change {
	c := Change{Key: m.key, Name: m.name, Outcome: Unchanged, text: m.text, samples: "windows"}
	if m.recoveries != nil {
		c.samples = "recoveries"
	}
	if !m.isCount() {
		c.Threshold, c.Floor = &m.threshold, &m.floor
	}
	was, wasMeasured := m.total(before)
	is, isMeasured := m.total(after)
	if wasMeasured {
		c.Before = &was
	}
	if isMeasured {
		c.After = &is
	}
	if !wasMeasured || !isMeasured {
		c.Outcome, c.Reason = unmeasured(wasMeasured, isMeasured)
		return c
	}
	if was != 0 {
		relative := (is - was) / was
		c.Relative = &relative
	}
	m.assess(&c, before, after)
	return c
}

// assess sets the outcome of a change, and the reason for the outcome. Both runs must have measured the metric.
func (m *metric) assess(c *Change, before, after *Document) {
	was, difference := *c.Before, *c.After-*c.Before
	direction := Regression
	if difference < 0 != m.higherIsBetter {
		direction = Improved
	}
	switch {
	case difference == 0:
	case m.isCount():
		c.Outcome = direction
		if direction == Regression {
			c.Reason = "any increase is a regression"
		}
	case math.Abs(difference) <= m.threshold*math.Abs(was):
		c.Reason = "within " + percentText(m.threshold)
	case math.Abs(difference) <= m.floor:
		c.Reason = "within " + m.text(m.floor)
	case m.recoveries != nil && before.FaultsOmitted+after.FaultsOmitted > 0:
		c.Outcome, c.Reason = Undecided, "at least one of the two reports omits occurrences of faults"
	default:
		c.Outcome = m.significance(c, before, after, direction)
		c.Reason = c.confidence()
	}
}

// unmeasured returns the outcome and the reason for a metric that at least one of the runs did not measure.
func unmeasured(before, after bool) (ChangeOutcome, string) {
	switch {
	case before:
		return Regression, "no longer measured" // a missing measurement may hide a regression
	case after:
		return Unchanged, "not measured in the first run"
	}
	return Unchanged, "not measured"
}

const (
	// window is the usual length of the windows of a run, in seconds. A short run has about minWindows shorter windows.
	window     = 10
	minWindows = 10
	alpha      = 0.01 // the significance level of the Mann–Whitney U test
	// fewestWindows is the minimum number of samples per run with which the test can reach the level alpha.
	fewestWindows = 5
	// maxGapRows limits the number of rows that fill gaps in the timeline.
	maxGapRows = 10_000
)

// isCount reports whether the metric is a count. Any change of a count matters, however small.
func (m *metric) isCount() bool { return m.window == nil && m.recoveries == nil }

// significance returns the parameter direction if a Mann–Whitney U test shows that the runs differ by more than noise,
// and Noise otherwise. With too few samples, it returns Undecided or, for recovery times, direction.
func (m *metric) significance(c *Change, before, after *Document, direction ChangeOutcome) ChangeOutcome {
	var was, is []float64
	few := Undecided
	if m.recoveries != nil {
		// Most runs have too few recoveries for the test. A change of recovery times then counts without a test.
		was, is, few = m.recoveries(before), m.recoveries(after), direction
	} else {
		width := max(min(windowOf(before), windowOf(after)), widest(before.Timeline), widest(after.Timeline))
		was, is = m.windows(before, width), m.windows(after, width)
	}
	c.Windows = [2]int{len(was), len(is)}
	if min(len(was), len(is)) < fewestWindows {
		return few
	}
	thresholds := &benchmath.Thresholds{CompareAlpha: alpha}
	samples := [2]*benchmath.Sample{benchmath.NewSample(was, thresholds), benchmath.NewSample(is, thresholds)}
	test := benchmath.AssumeNothing.Compare(samples[0], samples[1])
	c.P = &test.P
	// A single extreme sample can change the total. So a change of the total is significant only if the median of the
	// samples changed in the same direction.
	difference := Median(samples[1].Values) - Median(samples[0].Values)
	moved := difference != 0 && difference < 0 == (*c.After < *c.Before)
	if test.P >= alpha || !moved {
		return Noise
	}
	return direction
}

// Median returns the median of the given values, or 0 without values. For an even number of values, it is the mean of
// the middle two.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// windowOf returns the length, in seconds, of the windows into which a run is divided.
func windowOf(d *Document) int64 {
	return min(max(int64(d.ElapsedSeconds)/minWindows, 1), window)
}

// widest returns the width of the widest row, in seconds. Windows must be at least this wide, because a wider row
// usually has a larger maximum lag.
func widest(rows []timeline.Row) int64 {
	w := int64(1)
	for i := range rows {
		w = max(w, rows[i].Width)
	}
	return w
}

// windows returns the value of the metric in each window of the timeline. It omits windows that end after the schedule,
// except the first.
func (m *metric) windows(d *Document, width int64) []float64 {
	if len(d.Timeline) == 0 {
		return nil
	}
	// Begin the windows at the first row, so that only the last window can be shorter than the others.
	first := d.Timeline[0].Second
	rows := slices.Clone(d.Timeline)
	for i := range rows {
		rows[i].Second -= first
	}
	var values []float64
	// Limit the number of rows, so that an implausibly long gap does not need much memory.
	last := rows[len(rows)-1].Second
	filled := timeline.FillGaps(rows, max(width, last/maxGapRows), last)
	for _, row := range timeline.Merge(width, filled...) {
		if row.Second > 0 && float64(row.Second+width) > d.ElapsedSeconds {
			continue
		}
		if v, ok := m.window(&row); ok {
			values = append(values, v)
		}
	}
	return values
}

// objectives returns every objective that at least one of the runs has, with the values measured in both runs.
func objectives(before, after *Document) []Values {
	all := []Values{}
	for _, c := range ObjectiveLines(&before.Verdict) {
		all = append(all, Values{Name: c.Name, Before: c.Got, After: Unmeasured})
	}
	for _, c := range ObjectiveLines(&after.Verdict) {
		i := slices.IndexFunc(all, func(v Values) bool { return v.Name == c.Name })
		if i < 0 {
			i = len(all)
			all = append(all, Values{Name: c.Name, Before: Unmeasured})
		}
		all[i].After = c.Got
	}
	return all
}

// changedChecks returns the checks whose outcomes differ between the runs, including checks that only one of the runs
// made.
func changedChecks(before, after *Document) []CheckChange {
	was, is := outcomes(before), outcomes(after)
	changed := []CheckChange{}
	for _, check := range slices.Concat(after.Checks, before.Checks) {
		c := CheckChange{
			Name: check.Name, Before: cmp.Or(was[check.Name], MissingCheck), After: cmp.Or(is[check.Name], MissingCheck),
			Outcome: Unchanged,
		}
		passed := string(ledger.Passed)
		switch {
		case c.Before == c.After:
			continue
		case c.Before == passed:
			// A check that is missing in the second run is a regression, too: nothing shows that the check would still
			// pass.
			c.Outcome = Regression
		case c.After == passed && c.Before != MissingCheck:
			c.Outcome = Improved
		}
		if !slices.Contains(changed, c) {
			changed = append(changed, c)
		}
	}
	return changed
}

// outcomes returns the outcomes of the checks of a run, keyed by the names of the checks.
func outcomes(d *Document) map[string]string {
	all := make(map[string]string, len(d.Checks))
	for _, c := range d.Checks {
		all[c.Name] = string(c.Outcome)
	}
	return all
}

// isSameRun reports whether two reports describe the same run: they have the same simulation, start and end.
func isSameRun(a, b *Document) bool {
	return a == b || a.Simulation == b.Simulation && !a.StartTime.IsZero() && a.StartTime.Equal(b.StartTime) && a.EndTime.Equal(b.EndTime)
}

// changedSettings returns the settings that differ between the runs. The name of a setting is its path in the JSON form
// of Document.Environment, such as manifest.spec.duration.
func changedSettings(before, after *Document) []Values {
	was, is := settings(before), settings(after)
	paths := maps.Clone(was)
	maps.Copy(paths, is)
	changed := []Values{}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if was[path] != is[path] {
			changed = append(changed, Values{Name: path, Before: was[path], After: is[path]})
		}
	}
	return changed
}

// settings returns all values in Document.Environment, which includes the manifest. The keys are the paths of the
// values.
func settings(d *Document) map[string]string {
	all := map[string]string{}
	text, err := json.Marshal(d.Environment)
	if err != nil {
		return all
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return all
	}
	for _, leaf := range flatten("", value) {
		all[leaf.Name] = leaf.Value
	}
	return all
}

// BeforeText formats the value before the change.
func (c *Change) BeforeText() string { return c.format(c.Before) }

// AfterText formats the value after the change.
func (c *Change) AfterText() string { return c.format(c.After) }

func (c *Change) format(v *float64) string {
	if v == nil {
		return Unmeasured
	}
	return c.text(*v)
}

// RelativeText formats the relative change as a percentage.
func (c *Change) RelativeText() string {
	if c.Relative == nil {
		return ""
	}
	const tenth = 0.1
	return fmt.Sprintf("%+.1f %%", math.Round(100**c.Relative/tenth)*tenth+0) // + 0 turns -0 into 0
}

// ThresholdText formats the thresholds that a change must exceed to matter. It returns "any" for a count.
func (c *Change) ThresholdText() string {
	switch {
	case c.Threshold == nil:
		return "any"
	case *c.Floor == 0:
		return percentText(*c.Threshold)
	}
	return percentText(*c.Threshold) + " and " + c.text(*c.Floor)
}

// shareText formats a share as a percentage with one decimal.
func shareText(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

func percentText(share float64) string { return fmt.Sprintf("%.3g %%", 100*share) }

// confidence formats the p-value and the numbers of samples as a text.
func (c *Change) confidence() string {
	windows := fmt.Sprintf("%d and %d %s", c.Windows[0], c.Windows[1], c.samples)
	switch {
	case c.P != nil:
		return fmt.Sprintf("p = %.2g, %s", *c.P, windows)
	case c.Outcome == Undecided:
		return windows + " are too few to decide"
	}
	return fmt.Sprintf("beyond the threshold; %s are too few to estimate noise", windows)
}

// Headline summarizes the comparison in one sentence.
func (c *Comparison) Headline() string {
	var worse, better []string
	for _, m := range c.Metrics {
		switch m.Outcome {
		case Regression:
			worse = append(worse, m.Name)
		case Improved:
			better = append(better, m.Name)
		}
	}
	for _, check := range c.Checks {
		switch {
		case check.Outcome == Regression && !slices.Contains(worse, check.Name):
			worse = append(worse, check.Name)
		case check.Outcome == Improved && !slices.Contains(better, check.Name):
			better = append(better, check.Name)
		}
	}
	if c.Regression && len(worse) == 0 {
		worse = append(worse, "verdict")
	}
	var parts []string
	if len(worse) > 0 {
		parts = append(parts, "regression: "+strings.Join(worse, ", "))
	}
	if len(better) > 0 {
		parts = append(parts, "improved: "+strings.Join(better, ", "))
	}
	if len(parts) == 0 {
		return "no change beyond the thresholds and noise"
	}
	return strings.Join(parts, "; ")
}

// JSON returns the comparison as JSON.
func (c *Comparison) JSON() ([]byte, error) { return encode(c, "  ") }

// Markdown returns the comparison as GitHub Flavored Markdown.
func (c *Comparison) Markdown() []byte {
	var b markdown
	mark := "✅"
	if c.Regression {
		mark = "❌"
	}
	b.line("## %s %s", mark, escapeMarkdown(c.Headline()))
	b.table("|before|after", "-|-|-")
	b.row("simulation", c.Before.Simulation, c.After.Simulation)
	b.row("start", c.Before.StartText(), c.After.StartText())
	b.row("verdict", string(c.Before.Verdict), string(c.After.Verdict))
	b.notes(c.Notes)
	b.table("metric|before|after|change|threshold|outcome|reason", "-|-:|-:|-:|-:|-|-")
	for i := range c.Metrics {
		m := &c.Metrics[i]
		b.row(m.Name, m.BeforeText(), m.AfterText(), m.RelativeText(), m.ThresholdText(), string(m.Outcome), m.Reason)
	}
	b.values("objective", c.Objectives)
	if len(c.Checks) > 0 {
		b.table("check|before|after|outcome", "-|-|-|-")
	}
	for _, check := range c.Checks {
		b.row(check.Name, check.Before, check.After, string(check.Outcome))
	}
	b.values("setting", c.Settings)
	return terminal.CleanLines(b.Bytes())
}

func (b *markdown) values(what string, all []Values) {
	if len(all) == 0 {
		return
	}
	b.table(what+"|before|after", "-|-|-")
	for _, d := range all {
		b.row(d.Name, d.Before, d.After)
	}
}

// HTML returns the comparison as a self-contained HTML page. The charts of the page show both runs.
func (c *Comparison) HTML() ([]byte, error) {
	p := newPage(c.runs[1], "Comparison: "+c.After.Simulation)
	p.Comparison, p.Charts = c, c.charts()
	return p.render("comparison")
}

// charts returns charts with one line for each of the two runs.
func (c *Comparison) charts() []Chart {
	before, after := curvesOf(c.runs[0]), curvesOf(c.runs[1])
	if len(before.rows) == 0 && len(after.rows) == 0 {
		return nil
	}
	end := max(before.end, after.end)
	chart := func(title, help string, u unit, value func(*timeline.Row) float64) Chart {
		return newChart(title, help, u, end, []series{before.series("before", "c2 other", value), after.series("after", "c1", value)}, 0)
	}
	published := func(r *timeline.Row) int64 { return r.Entry.Published + r.Exit.Published }
	return []Chart{
		chart("End-to-end latency, p99", "Time from when an event was due until it took effect", latencyUnit(), quantile(.99, endToEnd)),
		chart("End-to-end latency, p50", "Median time from when an event was due until it took effect", latencyUnit(), quantile(.50, endToEnd)),
		chart("Processing latency, p99", "Time to process an event, including failed attempts", latencyUnit(), quantile(.99, processing)),
		chart("Published", "Entries and exits per second", perSecond(), rate(published)),
		chart("Ready messages", "Messages that are ready in the queues: the maximum in each interval", events(), gauge(func(r *timeline.Row) *int64 { return r.Ready })),
		chart("Lag", "How late the generators publish: the longest delay in each interval", lagUnit(),
			func(r *timeline.Row) float64 { return max(r.Entry.Lag, r.Exit.Lag).Seconds() }),
	}
}
