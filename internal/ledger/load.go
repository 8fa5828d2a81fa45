package ledger

import (
	"math"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Load describes the events that were due according to the plan of a run. Load includes events that were due while no
// generator ran, although no generator counts such events.
type Load struct {
	entry, exit schedule
	// The field from is the latest time at which a generator may start. The field end is the time at which the
	// generators stopped.
	from, end time.Time
}

// schedule is a plan.Schedule that began at the time start.
type schedule struct {
	plan.Schedule

	start time.Time
}

// LoadOf returns the load of a plan. The run began at start, and the generators stopped at end. A generator may start
// late, at most by the given time, and skips the events that were due earlier. So an event before start+late counts as
// due only if a generator has counted it.
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
	// The field due counts the events that were due. The field missed counts the due events that were never published.
	due, missed int64
	// The field gap is the longest time without a running generator in which events were due.
	gap time.Duration
}

// shortGap is the minimum length of a gap. The function absences ignores shorter periods without a generator.
const shortGap = 100 * time.Millisecond

// demand counts the events of one type that were due in the rows for which covers returns true. It counts the events
// that a generator recorded as due, and the absent events (see absences). If l is nil, the plan is unknown, so no event
// counts as absent. The rows must be in chronological order, and each row must begin where the previous row ends.
//
// A killed process loses its latest rows. unrecorded is the number of events that it published in these rows. They do
// not count as absent.
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
	// With random arrivals, the number of due events is only a mean, so fewer events may be published by chance. Ignore
	// up to 5 standard deviations of events that are neither published nor reported as skipped. A larger number has
	// another cause, such as a killed process, which does not report its overdue events.
	const deviations = 5
	unexplained := float64(sum(shortfall) - sum(skipped))
	if l != nil && l.of(t).Arrivals == plan.ArrivalsPoisson && unexplained <= deviations*math.Sqrt(float64(due)) {
		return skipped
	}
	return lasting(shortfall, nil)
}

// gap is a period in which events were due, but no generator counted them. gap.row is the index of the timeline row
// with the largest number of these events.
type gap struct {
	row    int
	length time.Duration
}

// absences compares the rows with the plan. An event is absent if the plan contains the event, but no generator counted
// the event. absences returns the number of absent events of each row, and the gaps, which are periods with absent
// events.
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
			// The row begins after the generators stopped, so the plan expects its events in earlier rows. A negative
			// shortfall makes up for the shortfalls of these rows.
			shortfall[i] = -row.Of(t).Due
		}
	}
	for i, n := range lasting(shortfall, planned) {
		// Ignore absent events in the row that contains l.end, the time at which the generators stopped. This row can
		// lack events although no generator failed, because the generators do not stop at exactly the same time.
		if !rows[i].End().After(l.end) {
			absent[i] = n
		}
	}
	remaining := 0 // the number of gaps that the second call of eachGap must still process
	// Discard gaps with few absent events, because they occur even if all generators run. If a process writes a row a
	// little late, at most as many events are absent as are due in the time shortGap. If a generator counts an event a
	// little earlier or later than planned, one event is absent.
	eachGap(absent, func(from, to int) {
		short := float64(sum(planned[from:to])) * shortGap.Seconds() / rows[to-1].End().Sub(rows[from].Start()).Seconds()
		if sum(absent[from:to]) > max(int64(short), int64(s.Replicas)) {
			remaining++
			return
		}
		clear(absent[from:to])
	})
	eachGap(absent, func(from, to int) {
		// A killed process loses the rows of about its last second, so some absent events were published after all:
		// their number is unrecorded. Subtract an equal share of it from each gap, because the number of lost rows does
		// not depend on the length of the gap.
		events := sum(absent[from:to])
		lost := min(events, unrecorded/int64(remaining))
		remaining, unrecorded = remaining-1, unrecorded-lost
		counts := float64(events-lost) / float64(events)
		length := longest(rows[from:to], absent[from:to], planned[from:to], s.Replicas)
		most := from
		// Scale absent[i] by counts, the share of the absent events that were not published. Round only the sum over
		// the rows, so that rounding errors do not accumulate.
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

// eachGap calls the function do for each gap. A gap is a range [from, to) of consecutive rows that all have absent
// events. The rows before and after the range have no absent events.
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

// longest returns the longest time in which no generator ran. The given rows are consecutive, and in each row, some
// planned events are absent (were never due in a generator). If half of the planned events are absent, no generator ran
// during half of the row.
//
// Events are also absent if only some of several generators did not run. So a row with only some of its events absent
// counts only if it is next to a row with all events absent.
func longest(rows []timeline.Row, absent, planned []int64, generators int) time.Duration {
	isWhole := func(i int) bool { return i >= 0 && i < len(rows) && absent[i] >= planned[i] }
	// most is the longest time without a generator so far. sum is the length of the time without a generator that
	// extends to the end of the current row.
	var most, sum time.Duration
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
// events of row i, minus the number of events that appeared in row i. A negative shortfall is a surplus. It makes up
// for shortfalls of earlier rows first, and then for shortfalls of later rows. For example, the shortfalls 5, -3, 4
// give 2, 0, 4.
//
// If expected is not nil, it contains the number of expected events of each row. It limits how much of a surplus makes
// up for later rows. A row that is written late also contains events of the next row, but hardly more than one row has.
// A larger surplus has another cause, and must not hide a later gap. To leave a margin, the limit is the number of
// events that are expected in the row and in the previous row.
func lasting(shortfall, expected []int64) []int64 {
	total := make([]int64, len(shortfall)+1) // total[i+1] is the sum of the shortfalls of rows 0 to i
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
