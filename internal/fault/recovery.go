package fault

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// The simulation has recovered from a fault at the earliest time, not before the end of the fault, from which these
// conditions are met for at least steadyTime:
//  1. The end-to-end p99 is at most twice the p99 of the baseline, or exceeds it by at most latencySlack.
//  2. The queues are not much longer than in the baseline (see the method violation).
//  3. Events of each type take effect (see the method missing).
const (
	// rowShift is the maximum delay with which a process records a row. A fault that begins during the delay can
	// disturb the row.
	rowShift     = time.Second
	steadyTime   = plan.SteadyTime
	baselineTime = 30 * time.Second // total length of the latest undisturbed rows before the injection
	maxTime      = 10 * time.Minute // maximum length of a period that is extended until it has minEvents events
	minEvents    = plan.MinEvents
	// latencySlack is larger than the noise in the latencies of a busy machine, and smaller than the effect of a fault.
	latencySlack = 100 * time.Millisecond
	backlogSlack = 10
)

// interval is the time [from, to). It is open-ended if to is zero.
type interval struct{ from, to time.Time }

// measured is the part of a timeline row that the function Accounts needs.
type measured struct {
	start, end time.Time
	// endToEnd covers entries and exits together. effects counts entries and exits, in this order.
	endToEnd histogram.Snapshot
	effects  [2]uint64
	// confirmed contains the number of entries and the number of exits that the broker confirmed.
	confirmed [2]int64
	lag       time.Duration
	// backlog is the number of messages that are ready or wait for a retry, according to the latest measurement. It is
	// nil before the first measurement.
	backlog *int64
	// late is the number of events that were due before this row of the timeline began, and took effect in this row or
	// later.
	late int64

	redelivered, duplicates int64
}

func (m *measured) overlaps(i interval) bool {
	return m.end.After(i.from) && (i.to.IsZero() || m.start.Before(i.to))
}

// waiting returns a lower bound for the number of waiting events: the larger of late and backlog. It returns nil if
// backlog is nil and late is 0.
func (m *measured) waiting() *int64 {
	if m.late > 0 && (m.backlog == nil || m.late > *m.backlog) {
		return &m.late
	}
	return m.backlog
}

// search determines when the simulation recovered from each fault of a run.
type search struct {
	run  Run
	rows []measured
	// The occurrences that took effect, in the order of their injection.
	active []activity
	// Intervals in which the faults handled so far may affect measurements, sorted and merged.
	disturbed []interval
	// earlier contains the disturbances in run.History that are not in disturbed yet.
	earlier []Disturbance
	// currentBaseline is the baseline of the current fault or else the latest baseline of an earlier fault. It is nil
	// if neither exists.
	currentBaseline *Baseline
	// cached is the result of the latest call of find with currentBaseline. cachedFrom is the time passed to find, or
	// zero if nothing is cached.
	cached     recovery
	cachedFrom time.Time
}

// activity describes when one occurrence of a fault disturbed the simulation.
type activity struct {
	id       string
	interval // when the occurrence was in effect
	// recovered is the end of the disturbance or, if the fault had no effect, the time of the injection. It is zero if
	// the end is unknown or not computed yet.
	recovered time.Time
}

// recovery says when the simulation recovered from a fault, or that the simulation did not recover.
type recovery struct {
	// at is the time of the recovery if ok is true. Otherwise, no recovery before this time is possible.
	at time.Time
	ok bool
	// violation describes the latest abnormal measurement after the end of the fault. Without a violation, it is empty.
	violation string
	// isNormal is true if the latest measurements were normal, but cover too little time to prove the recovery.
	isNormal bool
	// unknown says why the measurements cannot show whether latency and backlog have returned to normal. It is empty if
	// they can.
	unknown string
}

// Baseline holds measurements from before a fault. The simulation has recovered when later measurements are close to
// these measurements.
type Baseline struct {
	// Until is the end of the baseline, that is, the end of its last timeline row.
	Until time.Time     `json:"until"`
	P99   time.Duration `json:"p99Ns"`
	// Backlog is the largest number of messages that were ready in the event queues or waited for a retry. It is nil
	// if it was not measured.
	Backlog *int64 `json:"backlog,omitempty"`
	// Rates contains the numbers of entries and of exits that took effect per second, in this order.
	Rates [2]float64 `json:"rates"`
}

func newSearch(run Run, records []Record) *search {
	s := &search{run: run, earlier: run.History.Disturbed}
	for i := range records {
		if r := &records[i]; !r.InjectedAt.IsZero() {
			s.active = append(s.active, activity{id: r.ID(), interval: interval{r.InjectedAt, r.HealedAt}})
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
	countLate(s.rows)
	return s
}

// countLate computes the field late of each row from latencies, because queue lengths omit messages that processors
// hold. The result is a lower bound.
func countLate(rows []measured) {
	changes := make([]int64, len(rows)+1) // changes[i] is the number of late events in row i, minus that in row i-1
	for i := range rows {
		row := &rows[i]
		for _, b := range row.endToEnd.Buckets() {
			due := row.end.Add(-time.Duration(b.Lower * float64(time.Second)))
			if due.After(row.start) {
				continue
			}
			first, _ := slices.BinarySearchFunc(rows[:i], due, func(m measured, t time.Time) int { return m.start.Compare(t) })
			changes[first] += int64(b.Count)
			changes[i+1] -= int64(b.Count)
		}
	}
	var late int64
	for i := range rows {
		late += changes[i]
		rows[i].late = late
	}
}

// undisturbed returns the recovery time without the time in which other faults were in effect. It includes the restart
// of a killed target.
func (s *search) undisturbed(r *Record, recoveredAt time.Time) time.Duration {
	begin := r.recoversFrom()
	var others []interval
	for _, a := range s.active {
		i := a.interval
		if a.id == r.ID() {
			continue
		}
		i.from = latest(i.from, latest(begin, r.HealedAt))
		if r.HealedAt.IsZero() {
			continue
		}
		if i.to.IsZero() || i.to.After(recoveredAt) {
			i.to = recoveredAt
		}
		if i.to.After(i.from) {
			others = append(others, i)
		}
	}
	slices.SortFunc(others, func(a, b interval) int { return a.from.Compare(b.from) })
	length, covered := recoveredAt.Sub(begin), begin
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

func (s *search) recovery(r *Record) recovery {
	// Prefer the baseline from the timeline to the baseline from the record.
	s.use(cmp.Or(s.baseline(r.InjectedAt), r.Baseline))
	switch {
	case r.HealedAt.IsZero():
		return recovery{at: s.run.End}
	case !r.HealedAt.Before(s.run.End):
		return recovery{at: r.HealedAt, unknown: s.unproven(r)}
	case s.currentBaseline == nil:
		return recovery{at: r.HealedAt, unknown: s.withoutBaseline(r.InjectedAt)}
	}
	// A search from any time between cachedFrom and cached.at has the cached result.
	isKnown := !s.cachedFrom.IsZero() && !r.HealedAt.Before(s.cachedFrom) && !s.cached.at.Before(r.HealedAt)
	if !isKnown {
		s.cached, s.cachedFrom = s.find(r.HealedAt, s.currentBaseline), r.HealedAt
	}
	found := s.cached
	if !found.ok && !found.at.After(r.HealedAt) {
		found.unknown = s.unproven(r)
	}
	return found
}

// use makes b the current baseline, unless b is nil. A new baseline invalidates the cached search result.
func (s *search) use(b *Baseline) {
	if b != nil && (s.currentBaseline == nil || !b.Until.Equal(s.currentBaseline.Until)) {
		s.currentBaseline, s.cachedFrom = b, time.Time{}
	}
}

// baseline returns the measurements of the latest undisturbed rows before a fault. It returns nil if fewer than
// minEvents events were measured in these rows.
func (s *search) baseline(before time.Time) *Baseline {
	b := &Baseline{}
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
		b.Until = latest(b.Until, row.end)
		length += row.end.Sub(row.start)
		if i > 0 && !s.isDisturbed(&s.rows[i-1]) {
			length += row.start.Sub(s.rows[i-1].end) // count the gap between two rows as time without events
		}
		all = histogram.Merge(all, row.endToEnd)
		for t, n := range row.effects {
			effects[t] += n
		}
		if row.backlog != nil && (b.Backlog == nil || *row.backlog > *b.Backlog) {
			b.Backlog = row.backlog
		}
	}
	if all.Count() < minEvents {
		return nil
	}
	b.P99 = all.Quantile(0.99)
	for t, n := range effects {
		b.Rates[t] = float64(n) / length.Seconds()
	}
	return b
}

// disturb adds an interval to s.disturbed, and merges overlapping intervals. The calls must be in the order in which
// the intervals begin.
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

// disturbUntil moves the disturbances that began at or before the given time from s.earlier to s.disturbed.
func (s *search) disturbUntil(injected time.Time) {
	for len(s.earlier) > 0 && !s.earlier[0].interval().from.After(injected) {
		s.disturb(s.earlier[0].interval())
		s.earlier = s.earlier[1:]
	}
}

// disturbsUntil estimates when the effects of a fault without a baseline end: as long after the fault as the fault
// lasted, but at least rowShift. Without this estimate, later faults would have no baseline.
func disturbsUntil(injected, healed time.Time) time.Time {
	return healed.Add(max(healed.Sub(injected), rowShift))
}

// withoutBaseline returns why there is no baseline for a fault that was injected at the given time.
func (s *search) withoutBaseline(injected time.Time) string {
	var events uint64
	for i := range s.rows {
		if row := &s.rows[i]; !row.end.Add(rowShift).After(injected) {
			events += row.endToEnd.Count()
		}
	}
	const prefix = "the previous level was not measured, because "
	if events >= minEvents {
		return prefix + "other faults left too little undisturbed time before the fault"
	}
	return fmt.Sprintf("%sfewer than %d events took effect more than 1 s before the fault", prefix, minEvents)
}

func (s *search) isDisturbed(row *measured) bool {
	for _, i := range slices.Backward(s.disturbed) {
		if row.overlaps(i) {
			return true
		}
		if row.start.After(i.from) {
			return false // the intervals are sorted and do not overlap, so all earlier ones end before the row
		}
	}
	return false
}

// find returns the earliest recovery at or after the given time.
func (s *search) find(from time.Time, b *Baseline) recovery {
	found := recovery{at: from}
	for i := range s.rows {
		row := &s.rows[i]
		if row.end.After(s.run.End) {
			break
		}
		if !row.end.Add(rowShift).After(found.at) {
			continue
		}
		// No recovery begins in a row with an abnormal p99, unless the row has too few events.
		if why := b.latencyViolation(row.endToEnd); why != "" && row.endToEnd.Count() >= minEvents {
			found.violation, found.at = why, latest(found.at, row.end)
			continue
		}
		complete, why := s.window(i, found.at, b)
		switch {
		case complete && why == "":
			return recovery{at: found.at, ok: true}
		case !complete:
			found.isNormal = why == ""
			return found
		}
		found.violation, found.at = why, latest(found.at, row.end)
	}
	return found
}

// unproven returns why the measurements since the end of the fault do not prove the recovery, although all are normal.
func (s *search) unproven(r *Record) string { return s.tooLittleAfter(r.HealedAt) + s.meanwhile(r) }

func (s *search) tooLittleAfter(healed time.Time) string {
	var events uint64
	for i := range s.rows {
		if row := &s.rows[i]; row.end.After(healed) && !row.end.After(s.run.End) {
			events += row.endToEnd.Count()
		}
	}
	switch since := s.run.End.Sub(healed); {
	case since >= steadyTime && events < minEvents:
		return fmt.Sprintf("too little was measured after the fault to prove recovery: fewer than %d events took effect", minEvents)
	case !s.run.Ended:
		return "less than 5 s of normal operation have been measured since the fault ended"
	case since <= 0:
		return "the load ended before the fault ended"
	case s.run.Aborted:
		return "the run was ended early, before 5 s of normal operation were measured after the fault"
	}
	return "the run ended before 5 s of normal operation were measured after the fault"
}

// meanwhile returns a clause that names the other faults that were in effect after the fault had ended. It returns ""
// if there are none.
func (s *search) meanwhile(r *Record) string {
	var others []string
	for _, a := range s.active {
		if a.id != r.ID() && a.from.Before(s.run.End) && (a.to.IsZero() || a.to.After(r.HealedAt)) {
			others = append(others, a.id)
		}
	}
	switch len(others) {
	case 0:
		return ""
	case 1:
		return "; meanwhile " + named(others) + " was in effect"
	default:
		return "; meanwhile " + named(others) + " were in effect"
	}
}

// aftermath returns a clause that names the other faults from which the simulation was recovering. It returns "" if
// there are none.
func (s *search) aftermath(r *Record, recovered time.Time) string {
	var others []string
	for _, a := range s.active {
		hasEnded := !a.to.IsZero() && a.to.Before(recovered)
		if a.id != r.ID() && hasEnded && (a.recovered.IsZero() || a.recovered.After(r.recoversFrom())) {
			others = append(others, a.id)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return "; meanwhile, the simulation was also recovering from " + named(others)
}

// named lists occurrences in a text such as "fault a/0 and 2 more". There must be at least one occurrence.
func named(occurrences []string) string {
	switch n := len(occurrences); n {
	case 1:
		return "fault " + occurrences[0]
	case 2:
		return "faults " + occurrences[0] + " and " + occurrences[1]
	default:
		return fmt.Sprintf("fault %s and %d more", occurrences[0], n-1)
	}
}

// window compares the period that begins at the given time, in row i, with the baseline. complete is false if the rows
// end before the period does. why describes a violation, or is "".
func (s *search) window(i int, at time.Time, b *Baseline) (complete bool, why string) {
	var all histogram.Snapshot
	var effects [2]uint64
	var backlog *int64
	if i > 0 {
		backlog = s.rows[i-1].backlog
		if s.rows[i].start.Before(at) || s.rows[i].start.Equal(at) {
			backlog = nil // the previous row is not part of the period, so its backlog does not count
		}
	}
	// Extend the period until it has minEvents events or exceeds maxTime. Do not extend a period without effects of one
	// type: later effects would hide this violation.
	isEnough := func(until time.Time) bool {
		return all.Count() >= minEvents || b.missing(effects) != "" || until.Sub(at) > maxTime
	}
	end := at.Add(steadyTime)
	for ; i < len(s.rows); i++ {
		row := &s.rows[i]
		if !row.start.Before(end) && isEnough(row.start) {
			break
		}
		if row.end.After(s.run.End) {
			end = row.end
			break
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
	return !end.After(s.run.End) && isEnough(s.run.End), b.violation(all, effects, backlog)
}

// violation says which measurement is not normal, compared with the baseline. It returns "" if all measurements are
// normal.
func (b *Baseline) violation(all histogram.Snapshot, effects [2]uint64, backlog *int64) string {
	if all.Count() == 0 {
		return "no event took effect"
	}
	if name := b.missing(effects); name != "" {
		return "no " + name + " took effect"
	}
	if all.Count() < minEvents {
		return fmt.Sprintf("fewer than %d events took effect", minEvents)
	}
	if why := b.latencyViolation(all); why != "" {
		return why
	}
	if b.Backlog != nil && backlog != nil {
		arriving := (b.Rates[0] + b.Rates[1]) / 10
		if limit := 2**b.Backlog + int64(arriving) + backlogSlack; *backlog > limit {
			return fmt.Sprintf("%d messages wait in queues; before the fault, there were at most %d", *backlog, *b.Backlog)
		}
	}
	return ""
}

// missing returns the event type without effects, although its rate was at least 1/s before the fault. It returns "" if
// no type is missing.
func (b *Baseline) missing(effects [2]uint64) string {
	for t, name := range []string{"entry", "exit"} {
		if b.Rates[t] >= 1 && effects[t] == 0 {
			return name
		}
	}
	return ""
}

// latencyViolation compares the p99 with the p99 of the baseline. It returns "" if the p99 is normal. Otherwise, it
// returns a text that contains both values.
func (b *Baseline) latencyViolation(endToEnd histogram.Snapshot) string {
	if p99 := endToEnd.Quantile(0.99); p99 > max(2*b.P99, b.P99+latencySlack) {
		return fmt.Sprintf("p99 is %s; before the fault, it was %s", terminal.Duration(p99), terminal.Duration(b.P99))
	}
	return ""
}
