package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/terminal"
)

// chartWidth and chartHeight are the size of a chart in SVG units. areaLeft, areaTop, areaRight and areaBottom are the
// edges of the area inside the axes.
const (
	chartWidth, chartHeight                  = 480.0, 210.0
	areaLeft, areaTop, areaRight, areaBottom = 52.0, 16.0, 472.0, 184.0
	maxColumns                               = 240
	maxHits                                  = 80
	labelHeight                              = 16.0
	pathDigits                               = 1
)

// point is a measured value y at the time x, in seconds since the start of the run. NaN means that nothing was
// measured.
type point struct{ x, y float64 }

// series is one line of a chart.
type series struct {
	name string
	// class is the CSS class of the line.
	class  string
	points []point
}

// unit determines how a chart formats its values and scales its value axis.
type unit struct {
	// The function tick formats a value for the axis. The function text formats a value for a sentence.
	tick, text func(float64) string
	// log makes the value axis logarithmic.
	log bool
	// A linear axis ends at this value or above.
	least float64
}

func perSecond() unit {
	return unit{least: 1, tick: shortNumber, text: func(v float64) string { return terminal.Rate(v) + "/s" }}
}

func events() unit {
	return unit{least: 1, tick: shortNumber, text: func(v float64) string { return terminal.Count(int64(math.Round(v))) }}
}

func latencyUnit() unit {
	return unit{log: true, tick: shortDuration, text: func(v float64) string { return terminal.Duration(Seconds(v)) }}
}

func lagUnit() unit { u := latencyUnit(); u.log, u.least = false, 1e-3; return u }

// Chart is a chart with all coordinates computed, ready for the HTML template.
type Chart struct {
	Title, Help    string
	Lines          []Line
	XTicks, YTicks []Tick
	Marks          Marks
	Bands          []Band
	Hits           []Hit
	Cells          []Cells
	Limit          *Tick
	// LimitShift is the vertical distance between the line of the limit and its label.
	LimitShift    string
	Empty         bool
	Left, Right   string
	Top, Bottom   string
	Width, Height string
}

// Line is a line of a chart: its name in the legend, its CSS class and its SVG path.
type Line struct{ Name, Class, Path string }

// Tick is a position on an axis with its label.
type Tick struct{ At, Label string }

// Hit is an area of a chart that shows a text while the mouse is over it.
type Hit struct{ X, Width, Text string }

// Cells is the SVG path of all cells of a heat map that have the same intensity.
type Cells struct{ Class, Path string }

// axis maps values to coordinates.
type axis struct {
	low, high float64
	from, to  float64
	log       bool
}

func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	if high == low {
		return a.to
	}
	share := min(max((v-low)/(high-low), 0), 1)
	return a.from + share*(a.to-a.from)
}

func coordinate(v float64) string { return strconv.FormatFloat(v, 'f', pathDigits, 64) }

// newChart returns a line chart. The time axis ends at end, in seconds since the start of the run. A limit above 0 is
// drawn as a horizontal line.
func newChart(title, help string, u unit, end float64, lines []series, limit float64) Chart {
	c := frame(title, help, end)
	y, ok := valueAxis(u, lines, limit)
	if !ok {
		c.Empty = true
		return c
	}
	c.YTicks = valueTicks(y, u)
	x := timeAxis(end)
	for _, s := range lines {
		c.Lines = append(c.Lines, Line{Name: s.name, Class: s.class, Path: path(s.points, x, y)})
	}
	c.Hits = hits(lines, x, u)
	if limit > 0 {
		c.Limit = &Tick{At: coordinate(y.at(limit)), Label: "objective " + u.text(limit)}
		c.LimitShift = "-4"
		if y.at(limit) < areaTop+labelHeight {
			c.LimitShift = "12" // move the label below the line
		}
	}
	return c
}

func frame(title, help string, end float64) Chart {
	return Chart{
		Title: title, Help: help, XTicks: timeTicks(timeAxis(end)),
		Left: coordinate(areaLeft), Right: coordinate(areaRight), Top: coordinate(areaTop), Bottom: coordinate(areaBottom),
		Width: coordinate(areaRight - areaLeft), Height: coordinate(areaBottom - areaTop),
	}
}

func timeAxis(end float64) axis {
	return axis{low: 0, high: max(end, 1), from: areaLeft, to: areaRight}
}

// valueAxis returns an axis that covers the values of all lines. It returns false if there are no values.
func valueAxis(u unit, lines []series, limit float64) (axis, bool) {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range lines {
		for _, p := range s.points {
			if !math.IsNaN(p.y) && (!u.log || p.y > 0) {
				low, high = min(low, p.y), max(high, p.y)
			}
		}
	}
	if high < low {
		return axis{}, false
	}
	if limit > 0 {
		low, high = min(low, limit), max(high, limit)
	}
	a := axis{from: areaBottom, to: areaTop, log: u.log}
	if u.log {
		a.low, a.high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
		if a.high == a.low {
			a.high *= 10
		}
		return a, true
	}
	high = max(high, u.least)
	step := niceStep(high / 4)
	a.high = step * math.Ceil(high/step)
	return a, true
}

// niceStep rounds v up to the next number that is 1, 2 or 5 times a power of ten.
func niceStep(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= v {
			return factor * power
		}
	}
	return 10 * power
}

func valueTicks(a axis, u unit) []Tick {
	var ticks []Tick
	if a.log {
		decades := math.Round(math.Log10(a.high / a.low))
		step := math.Ceil(decades / 5)
		for i := 0.0; i <= decades; i += step {
			v := a.low * math.Pow(10, i)
			ticks = append(ticks, Tick{coordinate(a.at(v)), u.tick(v)})
		}
		return ticks
	}
	step := niceStep(a.high / 5)
	for i := 0.0; i*step <= a.high*1.001; i++ {
		ticks = append(ticks, Tick{coordinate(a.at(i * step)), u.tick(i * step)})
	}
	return ticks
}

// timeSteps returns the possible intervals between labels of the time axis, in seconds.
func timeSteps() []float64 {
	return []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 12 * 3600, 24 * 3600, 7 * 24 * 3600}
}

func timeTicks(a axis) []Tick {
	step := a.high
	for _, candidate := range timeSteps() {
		if a.high/candidate <= 7 {
			step = candidate
			break
		}
	}
	var ticks []Tick
	for i := 0.0; i*step <= a.high; i++ {
		ticks = append(ticks, Tick{coordinate(a.at(i * step)), terminal.Clock(Seconds(i * step))})
	}
	return ticks
}

// path returns the SVG path of a line. The path has a gap at each point without a value.
func path(points []point, x, y axis) string {
	var b strings.Builder
	command := "M"
	for i, p := range points {
		if math.IsNaN(p.y) || y.log && p.y <= 0 {
			command = "M"
			continue
		}
		fmt.Fprintf(&b, "%s%s %s", command, coordinate(x.at(p.x)), coordinate(y.at(p.y)))
		if command == "M" && (i+1 == len(points) || math.IsNaN(points[i+1].y)) {
			b.WriteString("h.1") // draw a single value as a dot
		}
		command = "L"
	}
	return b.String()
}

// hits divides a chart into adjacent areas, one per period. While the mouse is over an area, the page shows the values
// of its period.
func hits(lines []series, x axis, u unit) []Hit {
	columns := 0
	for _, s := range lines {
		columns = max(columns, len(s.points))
	}
	columns = min(columns, maxHits)
	if columns == 0 {
		return nil
	}
	width := x.high / float64(columns)
	all := make([]Hit, 0, columns)
	for i := range columns {
		from := width * float64(i)
		var text strings.Builder
		text.WriteString(terminal.Clock(Seconds(from + width/2)))
		for _, s := range lines {
			if v, ok := nearest(s.points, from+width/2, max(width, 1)); ok {
				fmt.Fprintf(&text, "\n%s: %s", s.name, u.text(v))
			}
		}
		all = append(all, Hit{X: coordinate(x.at(from)), Width: coordinate(x.at(from+width) - x.at(from)), Text: text.String()})
	}
	return all
}

// nearest returns the value of the point that is closest to a time. It ignores points that are further away than the
// given distance.
func nearest(points []point, at, distance float64) (value float64, ok bool) {
	for _, p := range points {
		if d := math.Abs(p.x - at); d <= distance && !math.IsNaN(p.y) {
			value, ok, distance = p.y, true, d
		}
	}
	return value, ok
}

// shortNumber formats a number for an axis. For example, 1500 becomes "1.5k".
func shortNumber(v float64) string {
	for _, unit := range []struct {
		size   float64
		suffix string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return strconv.FormatFloat(v/unit.size, 'g', 4, 64) + unit.suffix
		}
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// shortDuration formats a number of seconds for an axis. For example, 0.01 becomes "10 ms".
func shortDuration(seconds float64) string {
	for _, unit := range []struct {
		size   time.Duration
		suffix string
	}{{time.Second, " s"}, {time.Millisecond, " ms"}, {time.Microsecond, " µs"}} {
		if seconds >= unit.size.Seconds()*0.999 {
			return strconv.FormatFloat(seconds/unit.size.Seconds(), 'g', 3, 64) + unit.suffix
		}
	}
	if seconds == 0 {
		return "0"
	}
	return strconv.FormatFloat(seconds*1e9, 'g', 3, 64) + " ns"
}
