package ledger

import (
	"math"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Load describes which events were due according to the plan of a run. It is needed because a generator counts only the
// events that are due while it runs: Load also covers the time in which no generator was running.
type Load struct {
	entry, exit schedule
	// from is the time by which all generators should be running. end is when they stopped.
	from, end time.Time
}

// schedule is a plan.Schedule that began at the time start.
type schedule struct {
	plan.Schedule

	start time.Time
}

// LoadOf returns the load of a plan. start is when the schedules began, and end is when the generators stopped. late is
// the maximum delay with which generators may start. An event before start plus late counts as due only if a generator
// has counted it.
func LoadOf(p *plan.Plan, start, end time.Time, late time.Duration) *Load {
	l := &Load{
		entry: schedule{p.Entry.Schedule, start}, exit: schedule{p.Exit.Schedule, start.Add(p.Exit.Delay())},
		from: start.Add(late), end: end,
	}
	if late == 0 {
		l.from = start.Truncate(time.Second) // the row in which the schedules begin
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

// demand describes the events of one type that were due in one phase.
type demand struct {
	// due is the number of events that were due. missed is the number of those that were never published.
	due, missed int64
	// gap is the longest time in which events were due while no generator ran.
	gap time.Duration
}

// shortGap is the length of the shortest gap that is not discarded. A shorter gap in the timeline may only mean that a
// process wrote a row a little late.
const shortGap = 100 * time.Millisecond

// demand returns the events of one type that were due in the rows for which covers returns true. The rows must be in
// chronological order and without gaps. unrecorded is the number of published events that are in no row, because a
// killed process loses its latest rows. If l is nil, demand returns only the events that the generators recorded as
// due.
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
	// With random arrivals, d.due is the mean number of events, so more events than d.due may be missed.
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
	// If arrivals are random, Due is only the mean number of events, so chance alone may cause a shortfall. The
	// unexplained part of the shortfall is the part that the generators did not report as skipped: for example, a
	// killed process does not report its overdue events. The shortfall counts only if this part exceeds 5 standard
	// deviations, and so is not due to chance.
	const deviations = 5
	unexplained := float64(sum(shortfall) - sum(skipped))
	if l != nil && l.of(t).Arrivals == plan.ArrivalsPoisson && unexplained <= deviations*math.Sqrt(float64(due)) {
		return skipped
	}
	return lasting(shortfall, nil)
}

// gap is a period in which events were due while no generator counted them. row is the index of the row in which most
// of these events were due.
type gap struct {
	row    int
	length time.Duration
}

// absences compares the rows with the plan. For each row, it returns how many events were due but were not counted by
// any generator. It also returns the gaps that consist of such rows.
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
			shortfall[i] = -row.Of(t).Due // an event that was due before l.end may be counted in a row after l.end
		}
	}
	for i, n := range lasting(shortfall, planned) {
		if !rows[i].End().After(l.end) { // the generators do not stop at exactly the same time, so ignore the row of the end
			absent[i] = n
		}
	}
	// Discard short gaps. A gap shorter than shortGap may only mean that a process wrote a row a little late. A gap
	// with at most one event per generator may only mean that generators counted these events a little earlier or later
	// than planned.
	remaining := 0 // the number of gaps that are not discarded, minus those that the next loop has processed
	eachGap(absent, func(from, to int) {
		short := float64(sum(planned[from:to])) * shortGap.Seconds() / rows[to-1].End().Sub(rows[from].Start()).Seconds()
		if sum(absent[from:to]) > max(int64(short), int64(s.Replicas)) {
			remaining++
			return
		}
		clear(absent[from:to])
	})
	eachGap(absent, func(from, to int) {
		// Some absent events were published. A killed process loses the rows of about its last second, so the events
		// that it published in this second are in no row. Their number does not depend on how long no generator runs
		// afterwards. So each gap gets the same share of the unrecorded events.
		events := sum(absent[from:to])
		lost := min(events, unrecorded/int64(remaining))
		remaining, unrecorded = remaining-1, unrecorded-lost
		counts := float64(events-lost) / float64(events)
		length := longest(rows[from:to], absent[from:to], planned[from:to], s.Replicas)
		most := from
		// The missing events are divided among the rows. exact is the sum of the rows' shares so far. The shares are
		// not whole numbers. Only the sum is rounded, so that rounding errors do not accumulate.
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

// eachGap calls the function do for each range [from, to) of successive rows that all have absent events.
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

// longest returns the length of the longest gap, a time in which all planned events were absent. The given rows are
// consecutive, and each has absent events. If all planned events of a row are absent, the gap covers the whole row. If
// only some are absent, the gap begins or ends in the row: for example, if half of the planned events are absent, the
// gap covers half of the row.
//
// With several generators, some events of a row are also absent if one generator did not run while others did. That is
// not a gap. So with several generators, a row with only some absent events counts only next to a row whose planned
// events are all absent.
func longest(rows []timeline.Row, absent, planned []int64, generators int) time.Duration {
	isWhole := func(i int) bool { return i >= 0 && i < len(rows) && absent[i] >= planned[i] }
	var most, sum time.Duration // the longest gap so far, and the gap that extends to the end of the current row
	for i := range rows {
		width := rows[i].End().Sub(rows[i].Start())
		if isWhole(i) {
			sum += width
			most = max(most, sum)
			continue
		}
		var part time.Duration
		if generators == 1 || isWhole(i-1) || isWhole(i+1) {
			part = time.Duration(float64(width) * float64(absent[i]) / float64(planned[i]))
		}
		most = max(most, sum+part)
		sum = part
	}
	return most
}

// lasting returns, for each row, how many of its expected events never appeared. shortfall[i] is the number of expected
// events of row i minus the number that appeared. A negative shortfall is a surplus: it makes up first for shortfalls
// of earlier rows, and then of later rows. For example, the shortfalls 5, -3, 4 give 2, 0, 4.
//
// If expected is not nil, it contains the number of expected events of each row. The part of a surplus that is left for
// later rows is then limited to the number of events that are expected in two rows: the row with the surplus and the
// row before it. A row that is written late also contains events of the next row, but hardly more than the events of
// one row. A larger surplus has another cause, and must not hide a later gap.
func lasting(shortfall, expected []int64) []int64 {
	total := make([]int64, len(shortfall)+1) // prefix sums: total[i+1] is the shortfall of the rows 0 to i
	for i, n := range shortfall {
		total[i+1] = total[i] + n
		if expected != nil {
			total[i+1] = max(total[i+1], -expected[i]-expected[max(i-1, 0)])
		}
	}
	lasts := make([]int64, len(shortfall))
	least := total[len(shortfall)] // suffix minimum: in iteration i, the minimum of total[i+1:]
	for i := len(shortfall) - 1; i >= 0; i-- {
		least = min(least, total[i+1])
		lasts[i] = max(0, least) - max(0, min(least, total[i]))
	}
	return lasts
}
