package ledger

import (
	"math"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Load describes the events that were due according to the plan, including those that no generator counted because none
// ran.
type Load struct {
	entry, exit schedule
	// from is the latest time at which a generator may start. end is the time at which the generators stopped.
	from, end time.Time
}

// schedule is a plan.Schedule that began at the time start.
type schedule struct {
	plan.Schedule

	start time.Time
}

// LoadOf returns the load of a run from start to end. A generator may start late by the given duration: until then, an
// event is due only if a generator counted it.
func LoadOf(p *plan.Plan, start, end time.Time, late time.Duration) *Load {
	l := &Load{
		entry: schedule{p.Entry.Schedule, start}, exit: schedule{p.Exit.Schedule, start.Add(p.ExitDelay())},
		from: start.Add(late), end: end,
	}
	if late == 0 {
		l.from = start.Truncate(time.Second) // rows begin at whole seconds: include the whole first row
	}
	return l
}

func (l *Load) of(t event.Type) schedule {
	if t == event.TypeEntry {
		return l.entry
	}
	return l.exit
}

// events returns the number of events that are due in [from, to). If the schedule has no generators, no events are due.
func (s schedule) events(from, to time.Time) int64 {
	if s.Replicas == 0 {
		return 0
	}
	return s.Events(max(to.Sub(s.start), 0)) - s.Events(max(from.Sub(s.start), 0))
}

// demand says how many events of one type were due in some rows of a timeline.
type demand struct {
	// due is the number of events that were due. missed is the number of due events that were never published.
	due, missed int64
	// gap is the longest time without a running generator in which events were due.
	gap time.Duration
}

// shortGap is the minimum length of a gap.
const shortGap = 100 * time.Millisecond

// demand counts the due and the missed events in the rows for which covers returns true. If l is nil, absent events do
// not count. Each row must begin where the previous row ends.
func (l *Load) demand(rows []timeline.Row, t event.Type, unrecorded int64, covers func(*timeline.Row) bool) demand {
	skipped := l.skipped(rows, t)
	absent, gaps := l.absences(rows, t, unrecorded)
	var d demand
	for i := range rows {
		if covers(&rows[i]) {
			d.due += rows[i].Of(t).Due + absent[i]
			d.missed += skipped[i] + absent[i]
		}
	}
	// With random arrivals, the number of due events is only a mean, so more events can be missed than were due.
	d.missed = min(d.missed, d.due)
	for _, g := range gaps {
		if covers(&rows[g.row]) {
			d.gap = max(d.gap, g.length)
		}
	}
	return d
}

// skipped returns, for each row, the number of events that a generator counted as due but never published.
func (l *Load) skipped(rows []timeline.Row, t event.Type) []int64 {
	skipped, shortfall := make([]int64, len(rows)), make([]int64, len(rows))
	var due int64
	for i := range rows {
		e := rows[i].Of(t)
		skipped[i], shortfall[i] = e.Missed+e.Starved, e.Due-e.Published
		due += e.Due
	}
	// With random arrivals, chance explains a shortfall of up to 5 standard deviations. A larger shortfall has another
	// cause, such as a killed process.
	const deviations = 5
	unexplained := float64(sum(shortfall) - sum(skipped))
	if l != nil && l.of(t).Arrivals == plan.ArrivalsPoisson && unexplained <= deviations*math.Sqrt(float64(due)) {
		return skipped
	}
	return lasting(shortfall, nil)
}

// gap is a period in which events were due, but no generator counted them.
type gap struct {
	row    int // the index of the timeline row that has the largest number of these events
	length time.Duration
}

// absences returns the number of absent events of each row, and the gaps that they form. An absent event is planned,
// but no generator counted it.
func (l *Load) absences(rows []timeline.Row, t event.Type, unrecorded int64) (absent []int64, gaps []gap) {
	absent = make([]int64, len(rows))
	if l == nil {
		return absent, nil
	}
	s := l.of(t)
	planned, shortfall := make([]int64, len(rows)), make([]int64, len(rows))
	for i := range rows {
		if row := &rows[i]; !row.Start().Before(l.from) && row.Start().Before(l.end) {
			planned[i] = s.events(row.Start(), slices.MinFunc([]time.Time{row.End(), l.end}, time.Time.Compare))
			shortfall[i] = planned[i] - row.Of(t).Due
		} else if !row.Start().Before(l.end) {
			// The row begins after the generators stopped. Its events were planned for earlier rows, and reduce their
			// shortfalls.
			shortfall[i] = -row.Of(t).Due
		}
	}
	for i, n := range lasting(shortfall, planned) {
		// Ignore the row in which the generators stopped. They do not stop at exactly the same time, so this row can
		// lack events without a failure.
		if !rows[i].End().After(l.end) {
			absent[i] = n
		}
	}
	remaining := 0 // the number of gaps that are not discarded, and must still be corrected
	// Discard gaps with few absent events, which also occur while all generators run: rows may be recorded late, and
	// each generator may count one event in a neighboring row.
	eachGap(absent, func(from, to int) {
		short := float64(sum(planned[from:to])) * shortGap.Seconds() / rows[to-1].End().Sub(rows[from].Start()).Seconds()
		if sum(absent[from:to]) > max(int64(short), int64(s.Replicas)) {
			remaining++
			return
		}
		clear(absent[from:to])
	})
	eachGap(absent, func(from, to int) {
		// A killed process loses its last rows, so the timeline lacks some published events. Subtract an equal share of
		// them from each gap.
		events := sum(absent[from:to])
		lost := min(events, unrecorded/int64(remaining))
		remaining, unrecorded = remaining-1, unrecorded-lost
		counts := float64(events-lost) / float64(events)
		length := longest(rows[from:to], absent[from:to], planned[from:to], s.Replicas)
		most := from
		// Round only the sum over the rows, so that rounding errors do not accumulate.
		var exact float64
		for i := from; i < to; i++ {
			if absent[i] > absent[most] {
				most = i
			}
			before := exact
			exact += counts * float64(absent[i])
			absent[i] = int64(math.Round(exact)) - int64(math.Round(before))
		}
		gaps = append(gaps, gap{row: most, length: time.Duration(counts * float64(length))})
	})
	return absent, gaps
}

// eachGap calls the function do for each longest range [from, to) of consecutive rows with absent events.
func eachGap(absent []int64, do func(from, to int)) {
	for from := 0; from < len(absent); from++ {
		to := from
		for to < len(absent) && absent[to] > 0 {
			to++
		}
		if to > from {
			do(from, to)
			from = to
		}
	}
}

func sum(numbers []int64) (total int64) {
	for _, n := range numbers {
		total += n
	}
	return total
}

// longest returns the longest time without a generator in consecutive rows with absent events. If a row lacks only a
// part of its planned events, at most the same part of the row counts.
func longest(rows []timeline.Row, absent, planned []int64, generators int) time.Duration {
	isWhole := func(i int) bool { return i >= 0 && i < len(rows) && absent[i] >= planned[i] }
	// most is the longest time without a generator so far. sum is the time without a generator directly before the end
	// of the current row, or 0.
	var most, sum time.Duration
	for i := range rows {
		width := rows[i].End().Sub(rows[i].Start())
		if isWhole(i) {
			sum += width
			most = max(most, sum)
			continue
		}
		var part time.Duration
		// A row that lacks only some events proves a time without a generator only if there is just one generator, or
		// if an adjacent row lacks all events.
		if generators == 1 || isWhole(i-1) || isWhole(i+1) {
			part = time.Duration(float64(width) * float64(absent[i]) / float64(planned[i]))
		}
		most = max(most, sum+part)
		sum = part
	}
	return most
}

// lasting returns, for each row, how many of its expected events never appeared in any row. A negative shortfall is a
// surplus, which reduces earlier shortfalls first, then later ones. For example, 5, -3, 4 give 2, 0, 4.
func lasting(shortfall, expected []int64) []int64 {
	total := make([]int64, len(shortfall)+1) // total[i+1] is the sum of the shortfalls of rows 0 to i
	for i, n := range shortfall {
		total[i+1] = total[i] + n
		// Limit a surplus to the events of two rows, so that it does not hide a later gap. A late row contains the
		// events of about one further row at most.
		if expected != nil {
			total[i+1] = max(total[i+1], -expected[i]-expected[max(i-1, 0)])
		}
	}
	lasts := make([]int64, len(shortfall))
	least := total[len(shortfall)] // in iteration i of the loop, the minimum of total[i+1:]
	for i := len(shortfall) - 1; i >= 0; i-- {
		least = min(least, total[i+1])
		lasts[i] = max(0, least) - max(0, min(least, total[i]))
	}
	return lasts
}
