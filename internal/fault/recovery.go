package fault

import (
	"fmt"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Recovery is defined on the timeline. A simulation has recovered from a fault at the earliest time t, at or after the
// end of the fault, from which all of the following hold for steadyTime:
//
//   - The end-to-end p99 of all events is at most twice the p99 before the fault, or at most latencySlack above it.
//   - The queues hold at most twice as many messages as before the fault, plus the arrivals of a tenth of a second,
//     plus backlogSlack.
//   - Events of a type take effect, if at least one of that type per second took effect before the fault.
//
// "Before the fault" means the latest period of length baselineTime, before the injection, that no other fault disturbed.
// If fewer than minEvents events were measured in it, the period is extended up to maxTime. The period of steadyTime is
// extended in the same way. The p99 is that of all events in the period, so one slow event among hundreds does not
// matter. In addition, the p99 of the first row must not exceed the limit.
//
// latencySlack is more than the noise of a busy machine and less than the effect of a fault. The latencies after the
// recovery count for the objectives that exclude faults, which may be stricter.
//
// t is the end of the fault or the beginning of a row, so the accuracy of t is about the width of a row. A process may
// measure a row up to rowShift later than the row says, so the row that ends before a fault may already show it.
const (
	rowShift     = time.Second
	steadyTime   = 5 * time.Second
	baselineTime = 30 * time.Second
	maxTime      = 10 * time.Minute
	minEvents    = 5
	latencySlack = 100 * time.Millisecond
	backlogSlack = 10
)

// interval is the time [from, to). If to is zero, the interval has no end.
type interval struct{ from, to time.Time }

// measured holds what a row of the timeline says that matters for recovery.
type measured struct {
	start, end time.Time
	// endToEnd holds the latencies of entries and exits together. effects counts the events that took effect,
	// by type.
	endToEnd histogram.Snapshot
	effects  [2]uint64
	// confirmed counts the events that the broker has confirmed, by type.
	confirmed [2]int64
	lag       time.Duration
	// backlog is the number of messages in the queues. If the row did not measure it, it is that of the row
	// before; nil means that it was never measured.
	backlog                 *int64
	redelivered, duplicates int64
}

func (m *measured) overlaps(i interval) bool {
	return m.end.After(i.from) && (i.to.IsZero() || m.start.Before(i.to))
}

// search finds the recovery from each fault of a run.
type search struct {
	run  Run
	rows []measured
	// active holds the interval in which each fault was in effect, by the ID of the occurrence.
	active map[string]interval
	// disturbed holds the intervals from the injection of a fault to the recovery from it, for the faults
	// handled so far. They are disjoint, the earliest first.
	disturbed []interval
	// before is the baseline in use. latest is the result of the latest search, and from is the instant at
	// which that search began.
	before *baseline
	latest recovery
	from   time.Time
}

// recovery is the result of a search.
type recovery struct {
	at time.Time
	ok bool
	// why says which measurement was not as before the fault. It is empty if ok is true.
	why string
}

// baseline holds the normal measurements before a fault.
type baseline struct {
	// last is the index of the latest row that the baseline includes.
	last int
	p99  time.Duration
	// backlog is nil if it was not measured.
	backlog *int64
	// rates are the numbers of events per second that took effect, by type.
	rates [2]float64
}

func newSearch(run Run, records []Record) *search {
	s := &search{run: run, active: map[string]interval{}}
	for i := range records {
		if r := &records[i]; !r.InjectedAt.IsZero() {
			s.active[r.ID()] = interval{r.InjectedAt, r.HealedAt}
		}
	}
	var backlog *int64
	for i := range run.Rows {
		row := &run.Rows[i]
		if row.Ready != nil {
			n := *row.Ready
			if row.Retrying != nil {
				n += *row.Retrying
			}
			backlog = &n
		}
		m := measured{start: row.Start(), end: row.End(), lag: max(row.Entry.Lag, row.Exit.Lag), backlog: backlog}
		for t, events := range []*timeline.Events{row.Of(event.TypeEntry), row.Of(event.TypeExit)} {
			m.endToEnd = histogram.Merge(m.endToEnd, events.EndToEnd)
			m.effects[t] = events.EndToEnd.Count()
			m.confirmed[t] = events.Confirmed
			m.redelivered += events.Redeliveries
			m.duplicates += events.Outcomes["duplicate"]
		}
		s.rows = append(s.rows, m)
	}
	return s
}

// undisturbed returns the time from the beginning of the recovery from a fault until an instant, not counting
// the time in which other faults were in effect.
func (s *search) undisturbed(r *Record, recovered time.Time) time.Duration {
	begin := r.recoversFrom()
	var others []interval
	for id, i := range s.active {
		if id == r.ID() {
			continue
		}
		i.from = latest(i.from, begin)
		if i.to.IsZero() || i.to.After(recovered) {
			i.to = recovered
		}
		if i.to.After(i.from) {
			others = append(others, i)
		}
	}
	slices.SortFunc(others, func(a, b interval) int { return a.from.Compare(b.from) })
	length, covered := recovered.Sub(begin), begin
	for _, i := range others {
		if from := latest(i.from, covered); i.to.After(from) {
			length -= i.to.Sub(from)
			covered = i.to
		}
	}
	return length
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// recovery returns whether the simulation recovered from a fault, and when.
func (s *search) recovery(r *Record) recovery {
	if b := s.baseline(r.InjectedAt); b != nil && (s.before == nil || b.last != s.before.last) {
		s.before, s.from = b, time.Time{}
	}
	switch {
	case r.HealedAt.IsZero():
		return recovery{}
	case s.before == nil:
		return recovery{why: fmt.Sprintf("too little was measured before the fault to compare with: fewer than %d events", minEvents)}
	}
	// Consecutive faults without recovery between them have the same baseline. A search from the end of the
	// first one then also gives the recovery from the others.
	known := !s.from.IsZero() && !r.HealedAt.Before(s.from) && (!s.latest.ok || !s.latest.at.Before(r.HealedAt))
	if !known {
		s.latest, s.from = s.find(r.HealedAt, s.before), r.HealedAt
	}
	return s.latest
}

// baseline returns the normal measurements before an instant. It returns nil if too few events were measured.
func (s *search) baseline(before time.Time) *baseline {
	b := &baseline{last: -1}
	var all histogram.Snapshot
	var effects [2]uint64
	var length time.Duration
	for i := len(s.rows) - 1; i >= 0; i-- {
		row := &s.rows[i]
		if row.end.Add(rowShift).After(before) || s.isDisturbed(row) {
			continue
		}
		if enough := all.Count() >= minEvents; length >= baselineTime && enough || length >= maxTime {
			break
		}
		b.last = max(b.last, i)
		length += row.end.Sub(row.start)
		if i > 0 && !s.isDisturbed(&s.rows[i-1]) {
			length += row.start.Sub(s.rows[i-1].end) // nothing was measured in between
		}
		all = histogram.Merge(all, row.endToEnd)
		for t, n := range row.effects {
			effects[t] += n
		}
		if row.backlog != nil && (b.backlog == nil || *row.backlog > *b.backlog) {
			b.backlog = row.backlog
		}
	}
	if all.Count() < minEvents {
		return nil
	}
	b.p99 = all.Quantile(0.99)
	for t, n := range effects {
		b.rates[t] = float64(n) / length.Seconds()
	}
	return b
}

// disturb adds the interval from the injection of a fault to the recovery from it. Callers add intervals in the
// order of their beginning.
func (s *search) disturb(i interval) {
	n := len(s.disturbed)
	if n == 0 || !s.disturbed[n-1].to.IsZero() && s.disturbed[n-1].to.Before(i.from) {
		s.disturbed = append(s.disturbed, i)
		return
	}
	if last := &s.disturbed[n-1]; i.to.IsZero() || i.to.After(last.to) && !last.to.IsZero() {
		last.to = i.to
	}
}

func (s *search) isDisturbed(row *measured) bool {
	for _, i := range slices.Backward(s.disturbed) {
		if row.overlaps(i) {
			return true
		}
		if row.start.After(i.from) {
			return false // the earlier ones end before
		}
	}
	return false
}

// find returns the earliest time, at or after from, at which the simulation has recovered: its measurements are
// as in the baseline for steadyTime.
func (s *search) find(from time.Time, b *baseline) recovery {
	found := recovery{why: "the fault ended less than 5 s ago"}
	if s.run.Ended {
		found.why = "the run ended less than 5 s after the fault"
	}
	at := from
	for i := range s.rows {
		row := &s.rows[i]
		if !row.end.Add(rowShift).After(at) {
			continue
		}
		if why := b.latencyViolation(row.endToEnd); why != "" && row.endToEnd.Count() >= minEvents {
			found.why, at = why, latest(at, row.end)
			continue
		}
		complete, why := s.window(i, at, b)
		switch {
		case complete && why == "":
			return recovery{at: at, ok: true}
		case !complete:
			return found
		}
		found.why, at = why, latest(at, row.end)
	}
	return found
}

// window compares the measurements from at on with the baseline. Row i is the first row that it uses. complete
// reports whether the timeline covers enough time. If it does, why says which measurement is not normal; it is
// empty if all are.
func (s *search) window(i int, at time.Time, b *baseline) (complete bool, why string) {
	var all histogram.Snapshot
	var effects [2]uint64
	var backlog *int64
	if i > 0 {
		backlog = s.rows[i-1].backlog
		if s.rows[i].start.Before(at) || s.rows[i].start.Equal(at) {
			backlog = nil // that of the row before does not matter
		}
	}
	end := at.Add(steadyTime)
	for ; i < len(s.rows); i++ {
		row := &s.rows[i]
		if !row.start.Before(end) {
			if all.Count() >= minEvents || row.start.Sub(at) > maxTime {
				break
			}
		}
		end = latest(end, row.end)
		all = histogram.Merge(all, row.endToEnd)
		for t, n := range row.effects {
			effects[t] += n
		}
		if row.backlog != nil && (backlog == nil || *row.backlog > *backlog) {
			backlog = row.backlog
		}
	}
	if end.After(s.run.End) {
		return false, ""
	}
	return true, b.violation(all, effects, backlog)
}

// violation says which measurement is not normal. It returns "" if all are.
func (b *baseline) violation(all histogram.Snapshot, effects [2]uint64, backlog *int64) string {
	if all.Count() == 0 {
		return "no event took effect"
	}
	for t, name := range []string{"entry", "exit"} {
		if b.rates[t] >= 1 && effects[t] == 0 {
			return "no " + name + " took effect"
		}
	}
	if all.Count() < minEvents {
		return fmt.Sprintf("fewer than %d events took effect", minEvents)
	}
	if why := b.latencyViolation(all); why != "" {
		return why
	}
	if b.backlog != nil && backlog != nil {
		arriving := (b.rates[0] + b.rates[1]) / 10
		if limit := 2**b.backlog + int64(arriving) + backlogSlack; *backlog > limit {
			return fmt.Sprintf("%d messages wait in queues, and at most %d did before", *backlog, *b.backlog)
		}
	}
	return ""
}

// latencyViolation says by how much the p99 exceeds the normal one. It returns "" if the p99 is normal.
func (b *baseline) latencyViolation(endToEnd histogram.Snapshot) string {
	if p99 := endToEnd.Quantile(0.99); p99 > max(2*b.p99, b.p99+latencySlack) {
		return fmt.Sprintf("p99 is %s, and was %s before", rounded(p99), rounded(b.p99))
	}
	return ""
}

// rounded returns d rounded to three digits.
func rounded(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit)
}
