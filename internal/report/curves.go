package report

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// curves contains the timeline of a run for the charts.
type curves struct {
	rows  []timeline.Row
	start float64 // the Unix time of the start of the run
	end   float64 // the end of the timeline, in seconds after the start
}

// curvesOf prepares the timeline of a report for charts. It merges the rows of a long timeline into about maxColumns
// rows.
func curvesOf(d *Document) curves {
	rows := d.Timeline
	if len(rows) == 0 {
		return curves{}
	}
	first, last := rows[0].Second, rows[len(rows)-1].End().Unix()
	width := max((last-first+maxColumns-1)/maxColumns, 1)
	if width > 1 {
		rows = timeline.Merge(width, rows...)
	}
	rows = timeline.FillGaps(rows, width, last)
	start := float64(d.origin().UnixMilli()) / 1000
	return curves{rows: rows, start: start, end: float64(rows[len(rows)-1].End().Unix()) - start}
}

// series returns a chart line with one value for each row of the timeline.
func (c curves) series(name, class string, value func(*timeline.Row) float64) series {
	s := series{name: name, class: class}
	for i := range c.rows {
		row := &c.rows[i]
		middle := float64(row.Second) + width(row)/2 - c.start
		s.points = append(s.points, point{x: max(middle, 0), y: value(row)})
	}
	return s
}

// width returns the length of the time interval that a row covers, in seconds.
func width(r *timeline.Row) float64 { return float64(max(r.Width, 1)) }

// rate returns a function that computes a rate per second from the count in a row.
func rate(count func(*timeline.Row) int64) func(*timeline.Row) float64 {
	return func(r *timeline.Row) float64 { return float64(count(r)) / width(r) }
}

// gauge returns a function that reads a gauge from a row.
func gauge(value func(*timeline.Row) *int64) func(*timeline.Row) float64 {
	return func(r *timeline.Row) float64 {
		if v := value(r); v != nil {
			return float64(*v)
		}
		return math.NaN()
	}
}

// quantile returns a function that computes a quantile, in seconds, of the latencies of all entries and exits in a
// timeline row.
func quantile(q float64, of func(*timeline.Events) histogram.Snapshot) func(*timeline.Row) float64 {
	return func(r *timeline.Row) float64 {
		both := histogram.Merge(of(&r.Entry), of(&r.Exit))
		if both.Count() == 0 {
			return math.NaN()
		}
		return both.Quantile(q).Seconds()
	}
}

func processing(e *timeline.Events) histogram.Snapshot { return e.Processing }

func endToEnd(e *timeline.Events) histogram.Snapshot { return e.EndToEnd }

// percentiles returns the chart lines for the percentiles of a latency.
func (c curves) percentiles(of func(*timeline.Events) histogram.Snapshot) []series {
	return []series{
		c.series("p99", "c4", quantile(.99, of)),
		c.series("p90", "c2", quantile(.90, of)),
		c.series("p50", "c5", quantile(.50, of)),
	}
}

// charts returns the charts of the report. The charts mark the given notes on the time axis.
func (d *Document) charts(notes []Note) []Chart {
	c := curvesOf(d)
	if len(c.rows) == 0 {
		return nil
	}
	chart := func(title, help string, u unit, limit time.Duration, lines ...series) Chart {
		return newChart(title, help, u, c.end, lines, limit.Seconds())
	}
	published := func(e func(*timeline.Row) *timeline.Events) func(*timeline.Row) float64 {
		return rate(func(r *timeline.Row) int64 { return e(r).Published })
	}
	due := func(e func(*timeline.Row) *timeline.Events) func(*timeline.Row) float64 {
		return rate(func(r *timeline.Row) int64 { return e(r).Due })
	}
	lag := func(e func(*timeline.Row) *timeline.Events) func(*timeline.Row) float64 {
		return func(r *timeline.Row) float64 { return e(r).Lag.Seconds() }
	}
	entry := func(r *timeline.Row) *timeline.Events { return &r.Entry }
	exit := func(r *timeline.Row) *timeline.Events { return &r.Exit }
	starved := func(r *timeline.Row) int64 { return r.Exit.Starved }
	charts := []Chart{
		chart("Rates", "Events per second that the generators published, and those that the schedule asked for", perSecond(), 0,
			c.series("entries target", "c1 faint", due(entry)), c.series("exits target", "c2 faint", due(exit)),
			c.series("entries", "c1", published(entry)), c.series("exits", "c2", published(exit))),
		chart("End-to-end latency", "Time from when an event was due by the schedule to its effect in the store", latencyUnit(),
			d.Objectives.EndToEndP99.D(), c.percentiles(endToEnd)...),
		c.heatMap("End-to-end latency, distribution", endToEnd),
		chart("Backlog", "Messages in the queues, without those that processors hold: the maximum in each interval", events(), 0,
			c.series("ready", "c1", gauge(func(r *timeline.Row) *int64 { return r.Ready })),
			c.series("waiting for a retry", "c2", gauge(func(r *timeline.Row) *int64 { return r.Retrying })),
			c.series("dead letters", "c3", gauge(func(r *timeline.Row) *int64 { return r.DeadLetters }))),
		chart("Processing latency", "Time that a processor needs for one event, from its delivery to its effect", latencyUnit(),
			d.Objectives.ProcessingP99.D(), c.percentiles(processing)...),
		c.heatMap("Processing latency, distribution", processing),
		chart("Generator lag", "How late the generators are: the longest delay in each interval", lagUnit(), 0,
			c.series("entries", "c1", lag(entry)), c.series("exits", "c2", lag(exit))),
		chart("Outcomes", "Results of processing, per second", perSecond(), 0, c.outcomes()...),
		chart("Available plates", "Vehicles that are parked and may leave. A starved draw is an exit that was due, but was not published, because no vehicle was available", events(), 0,
			c.series("available", "c1", gauge(func(r *timeline.Row) *int64 { return r.Pool })),
			c.series("starved draws per second", "c3", rate(starved))),
		chart("Errors", "Failed attempts per second, by stage of the pipeline", perSecond(), 0, c.errors()...),
	}
	for i := range charts {
		charts[i].Bands, charts[i].Marks = c.bands(d.Faults), c.marks(notes)
	}
	return charts
}

// outcomes returns one chart line for each outcome of processing that occurred at least once.
func (c curves) outcomes() []series {
	total := timeline.Sum(c.rows...)
	var lines []series
	for _, outcome := range []struct{ key, name, class string }{
		{"recorded", "recorded", "c1"}, {"matched", "matched", "c5"}, {"unmatched_expected", "unmatched as expected", "c2"},
		{"duplicate", "duplicates", "c6"}, {"unmatched_unexpected", "unexpectedly unmatched", "c4"}, {"failed", "failed attempts", "c3"},
	} {
		if total.Entry.Outcomes[outcome.key]+total.Exit.Outcomes[outcome.key] > 0 {
			lines = append(lines, c.series(outcome.name, outcome.class, rate(func(r *timeline.Row) int64 {
				return r.Entry.Outcomes[outcome.key] + r.Exit.Outcomes[outcome.key]
			})))
		}
	}
	return lines
}

// errors returns a chart line for each pipeline stage at which attempts to process an event failed.
func (c curves) errors() []series {
	total := timeline.Sum(c.rows...)
	stages := maps.Clone(total.Entry.Errors)
	if stages == nil {
		stages = map[string]int64{}
	}
	maps.Copy(stages, total.Exit.Errors)
	classes := []string{"c3", "c2", "c4", "c1", "c5", "c6"}
	var lines []series
	for i, stage := range slices.Sorted(maps.Keys(stages)) {
		lines = append(lines, c.series(stage, classes[i%len(classes)], rate(func(r *timeline.Row) int64 {
			return r.Entry.Errors[stage] + r.Exit.Errors[stage]
		})))
	}
	return lines
}

const (
	maxHeatColumns = 120 // maximum number of columns of a heat map
	perOctave      = 2   // rows of a heat map for each doubling of the latency
	heatLevels     = 8   // number of color intensities
)

// heatMap returns a chart that shows the distribution of latencies over time.
func (c curves) heatMap(title string, of func(*timeline.Events) histogram.Snapshot) Chart {
	chart := frame(title, "The number of events at each latency. A darker cell, or a brighter one in the dark theme, has more events", c.end)
	counts, low, high := c.heat(of)
	if len(counts) == 0 {
		chart.Empty = true
		return chart
	}
	x := timeAxis(c.end)
	bound := func(row int) float64 { return math.Exp2(float64(row) / perOctave) }
	y := axis{low: bound(low), high: bound(high + 1), from: areaBottom, to: areaTop, log: true}
	for v := math.Pow(10, math.Ceil(math.Log10(y.low))); v <= y.high; v *= 10 {
		chart.YTicks = append(chart.YTicks, Tick{coordinate(y.at(v)), shortDuration(v)})
	}
	most := uint64(0)
	for _, n := range counts {
		most = max(most, n)
	}
	paths := [heatLevels]string{}
	columnWidth := x.high / float64(c.heatColumns())
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	for _, key := range keys {
		// The level grows with the square root of the count, so that cells with few events are visible.
		level := int(math.Ceil(math.Sqrt(float64(counts[key])/float64(most))*heatLevels)) - 1
		left, top := x.at(float64(key[0])*columnWidth), y.at(bound(key[1]+1))
		paths[level] += "M" + coordinate(left) + " " + coordinate(top) +
			"h" + coordinate(x.at(float64(key[0]+1)*columnWidth)-left) + "V" + coordinate(y.at(bound(key[1]))) + "H" + coordinate(left) + "z"
	}
	for level, path := range paths {
		if path != "" {
			chart.Cells = append(chart.Cells, Cells{Class: "h" + string(rune('1'+level)), Path: path})
		}
	}
	return chart
}

// heatColumns returns the number of columns of a heat map. There is at most one column per second.
func (c curves) heatColumns() int { return int(min(max(c.end, 1), maxHeatColumns)) }

// heat counts the latencies in each cell of a heat map. It also returns the lowest and the highest row with a latency.
func (c curves) heat(of func(*timeline.Events) histogram.Snapshot) (counts map[[2]int]uint64, low, high int) {
	counts, low, high = map[[2]int]uint64{}, math.MaxInt, math.MinInt
	columns := c.heatColumns()
	for i := range c.rows {
		r := &c.rows[i]
		column := int((float64(r.Second) + width(r)/2 - c.start) / max(c.end, 1) * float64(columns))
		column = min(max(column, 0), columns-1)
		for _, bucket := range histogram.Merge(of(&r.Entry), of(&r.Exit)).Buckets() {
			row := int(math.Ceil(math.Log2(bucket.Upper)*perOctave-1e-6)) - 1
			counts[[2]int{column, row}] += bucket.Count
			low, high = min(low, row), max(high, row)
		}
	}
	return counts, low, high
}
