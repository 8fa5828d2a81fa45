package ledger

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// phase is a part of the run for which objectives can be set: the whole run, the time without faults, or the time under
// faults.
type phase struct {
	// suffix is the end of the names of the checks for this phase.
	suffix     string
	objectives func(*plan.Objectives) plan.PhaseObjectives
	// covers reports whether a row belongs to the phase. A row that a fault disturbed even in part belongs to the time
	// under faults.
	covers func(e *Evidence, row *timeline.Row) bool
	// unmeasured reports whether the phase includes events without a latency. Most of them are due to killed
	// processors, so the time without faults excludes them in a run with faults.
	unmeasured func(e *Evidence) bool
	// absent is the message to show if no row of the timeline belongs to the phase. It is empty for the whole run, to
	// which all rows belong.
	absent string
}

func phases() []phase {
	return []phase{
		{
			objectives: func(o *plan.Objectives) plan.PhaseObjectives { return o.PhaseObjectives },
			covers:     func(*Evidence, *timeline.Row) bool { return true },
			unmeasured: func(*Evidence) bool { return true },
		},
		{
			suffix:     SuffixWithoutFaults,
			objectives: func(o *plan.Objectives) plan.PhaseObjectives { return o.WithoutFaults },
			covers:     func(e *Evidence, row *timeline.Row) bool { return !e.isDisturbed(row) },
			unmeasured: func(e *Evidence) bool { return !e.hasFaults() },
			absent:     "nothing was measured in the time without faults",
		},
		{
			suffix:     SuffixUnderFaults,
			objectives: func(o *plan.Objectives) plan.PhaseObjectives { return o.UnderFaults },
			covers:     func(e *Evidence, row *timeline.Row) bool { return e.isDisturbed(row) },
			unmeasured: func(e *Evidence) bool { return e.hasFaults() },
			absent:     "no fault was injected",
		},
	}
}

func (e *Evidence) hasFaults() bool {
	return len(e.FaultHistory.Disturbed) > 0 || slices.ContainsFunc(e.Faults, func(a fault.Account) bool { return !a.InjectedAt.IsZero() })
}

// isDisturbed reports whether a fault disturbed the simulation at any time in the interval of the row.
func (e *Evidence) isDisturbed(row *timeline.Row) bool {
	return e.FaultHistory.Disturbs(row.Start(), row.End()) ||
		slices.ContainsFunc(e.Faults, func(a fault.Account) bool { return a.Disturbs(row.Start(), row.End()) })
}

// isInterruptedUnderFault reports whether the run was interrupted during a fault or shortly afterwards. Generators may
// then still be catching up, so overdue events prove nothing.
func (e *Evidence) isInterruptedUnderFault() bool {
	return !e.Interrupted.IsZero() && slices.ContainsFunc(e.Faults, func(a fault.Account) bool {
		const least = 10 * time.Second
		// After a longer fault, generators need more time to publish the overdue events.
		catchUp := max(least, a.HealedAt.Sub(a.InjectedAt))
		return a.Disturbs(e.Interrupted, e.Interrupted) && (a.HealedAt.IsZero() || e.Interrupted.Sub(a.HealedAt) < catchUp)
	})
}

// isInterruptedBeforeFaults reports whether the run was interrupted before any fault was due.
func (e *Evidence) isInterruptedBeforeFaults() bool {
	return !e.Interrupted.IsZero() && len(e.Planned) > 0 && len(e.Faults) == 0 && len(e.FaultHistory.Totals) == 0
}

// checks returns the checks of this phase's objectives.
func (p phase) checks() []check {
	objective := func(name string, find func(what string, o plan.PhaseObjectives, m measured) finding) check {
		name += p.suffix
		findIn := func(e *Evidence, m measured) finding {
			if p.suffix == SuffixUnderFaults && e.isInterruptedBeforeFaults() {
				return finding{}
			}
			return find(name, p.objectives(&e.Objectives), m)
		}
		// All phases except the whole run need the times of the faults, which the store does not contain.
		return check{
			name: name, kind: Objective, beyondLedger: p.suffix != "",
			find:  func(e Evidence) finding { return findIn(&e, p.measure(&e)) },
			since: func(e *Evidence) time.Time { return p.since(e, findIn) },
		}
	}
	lag := objective(CheckLag, func(what string, o plan.PhaseObjectives, m measured) finding { return m.lag(what, o.MaxLag) })
	// Only the maximum lag of the whole run never decreases. Rows can move between the other phases when a recovery
	// becomes known.
	lag.certain = p.suffix == ""
	achieved := objective(CheckAchieved, func(what string, o plan.PhaseObjectives, m measured) finding {
		return m.achieved(what, o.MinAchievedPercent)
	})
	if find := achieved.find; p.suffix != SuffixWithoutFaults {
		achieved.find = func(e Evidence) finding {
			if e.isInterruptedUnderFault() {
				return finding{}
			}
			return find(e)
		}
	}
	return []check{
		objective(CheckProcessing, func(what string, o plan.PhaseObjectives, m measured) finding {
			return m.latency(what, o.ProcessingP99, func(l *Latencies) histogram.Snapshot { return l.Processing })
		}),
		objective(CheckEndToEnd, func(what string, o plan.PhaseObjectives, m measured) finding {
			return m.latency(what, o.EndToEndP99, func(l *Latencies) histogram.Snapshot { return l.EndToEnd })
		}),
		lag,
		achieved,
	}
}

// since returns when the violation that lasts until the last row of the phase began. It returns zero if the objective
// is met after the last row.
func (p phase) since(e *Evidence, find func(*Evidence, measured) finding) (since time.Time) {
	var total timeline.Row
	for i := range e.Timeline {
		row := e.Timeline[i]
		if !p.covers(e, &row) {
			continue
		}
		row.Marks = nil // timeline.Sum is faster without marks
		total = timeline.Sum(total, row)
		m := measured{latencies: latenciesOf(&total), total: total}
		m.entries, m.exits = counted(&total.Entry), counted(&total.Exit)
		switch isMissed := find(e, m).outcome == Failed; {
		case !isMissed:
			since = time.Time{}
		case since.IsZero():
			since = row.End()
		}
	}
	return since
}

// measured holds what the timeline says about one phase.
type measured struct {
	// latencies is nil if the timeline was not read, or if the phase has no objectives.
	latencies *Latencies
	total     timeline.Row
	// entries and exits say how many events were due in this phase, and how many of these were not published.
	entries, exits demand
	// absent says why the timeline has no row of the phase. It is empty if the timeline has such rows, or was not read.
	absent string
}

// measure sums up the rows of the timeline that belong to the phase.
func (p phase) measure(e *Evidence) measured {
	if e.Latencies == nil || p.objectives(&e.Objectives) == (plan.PhaseObjectives{}) {
		return measured{}
	}
	var rows []timeline.Row
	for i := range e.Timeline {
		if row := &e.Timeline[i]; p.covers(e, row) {
			rows = append(rows, *row)
		}
	}
	m := measured{total: timeline.Sum(rows...)}
	covers := func(row *timeline.Row) bool { return p.covers(e, row) }
	m.entries, m.exits = e.demand(event.TypeEntry, covers), e.demand(event.TypeExit, covers)
	if len(rows) == 0 && e.Latencies.Err == nil {
		m.absent = p.absent
	}
	if p.suffix == "" {
		m.latencies = e.Latencies
		return m
	}
	m.latencies = latenciesOf(&m.total)
	m.latencies.Err = e.Latencies.Err
	if p.unmeasured(e) {
		m.latencies.Unmeasured = e.Latencies.Unmeasured
	}
	return m
}

// counted returns how many events were due, and how many were missed, according to the generators. It omits events that
// were due while no generator ran.
func counted(e *timeline.Events) demand {
	return demand{due: e.Due, missed: max(0, e.Due-e.Published)}
}

// demand returns how many events of the given type were due, and how many of them were missed, in the rows for which
// covers returns true.
func (e *Evidence) demand(t event.Type, covers func(*timeline.Row) bool) demand {
	rows := e.Timeline
	if e.Load != nil {
		if from := e.Load.from; len(rows) > 0 && rows[0].Start().After(from) {
			rows = append([]timeline.Row{{Second: from.Unix()}}, rows...)
		}
		rows = timeline.FillGaps(rows, 1, e.Load.end.Unix())
	}
	return e.Load.demand(rows, t, e.unrecorded(t), covers)
}

// ScheduleOf compares the published events of one type with the plan in e.Load. It returns nil if e.Load is nil, or if
// the timeline was not read successfully.
func (e *Evidence) ScheduleOf(t event.Type) *Schedule {
	if e.Load == nil || e.Latencies == nil || e.Latencies.Err != nil {
		return nil
	}
	d := e.demand(t, func(*timeline.Row) bool { return true })
	starved := int64(0)
	for i := range e.Timeline {
		starved += e.Timeline[i].Of(t).Starved
	}
	return &Schedule{Due: d.due, Missed: max(0, d.missed-starved), Starved: starved, Gap: d.gap}
}

// unrecorded returns how many published events are missing from the timeline.
func (e *Evidence) unrecorded(t event.Type) int64 {
	r := &e.Report
	published := r.EntriesConfirmed + r.IndeterminateEntries
	if t == event.TypeExit {
		published = r.ExitsMatchedConfirmed + r.ExitsUnmatchedConfirmed + r.IndeterminateMatched + r.IndeterminateUnmatched
	}
	for i := range e.Timeline {
		published -= e.Timeline[i].Of(t).Published
	}
	return max(0, published)
}

// unknown returns the finding for an objective that cannot be checked.
func (m measured) unknown(what, want, reason string) finding {
	if m.absent != "" {
		reason = m.absent
	}
	if err := m.latencies.Err; err != nil {
		reason += ": " + excerpt.OneLine(err.Error())
	}
	return finding{outcome: NotMeasured, want: want, message: fmt.Sprintf("%s is unknown, so the objective of %s counts as not met: %s",
		what, strings.TrimPrefix(want, "at most "), reason)}
}

// latency compares a 99th percentile with its objective. The outcome is NotMeasured if the events without a measured
// latency could decide whether the objective is met.
func (m measured) latency(what string, objective plan.Duration, of func(*Latencies) histogram.Snapshot) finding {
	if objective == 0 || m.latencies == nil {
		return finding{}
	}
	l, want := m.latencies, "at most "+limit(objective)
	lowest, highest := of(l).Range(.99, l.Unmeasured)
	switch {
	case of(l).Count() == 0:
		return m.unknown(what, want, "no event was measured")
	case highest <= objective.D():
		return finding{outcome: Passed, want: want, got: measurement(highest, objective.D()) + unmeasured(l)}
	case lowest > objective.D():
		got := measurement(lowest, objective.D()) + unmeasured(l)
		return finding{outcome: Failed, want: want, got: got, message: fmt.Sprintf("%s is %s, beyond the objective of %s", what, got, limit(objective))}
	}
	count := of(l).Count()
	return m.unknown(what, want, fmt.Sprintf("only %s of %s events were measured", number(int64(count)), number(int64(count+l.Unmeasured))))
}

func (m measured) lag(what string, objective plan.Duration) finding {
	if objective == 0 || m.latencies == nil {
		return finding{}
	}
	want := "at most " + limit(objective)
	lag := max(m.total.Entry.Lag, m.total.Exit.Lag, m.entries.gap, m.exits.gap)
	if m.absent != "" || lag == 0 && m.entries.due+m.exits.due == 0 {
		return m.unknown(what, want, "no event was due")
	}
	got := measurement(lag, objective.D())
	return passIf(lag <= objective.D(), want, got, fmt.Sprintf("%s is %s, beyond the objective of %s", what, got, limit(objective)))
}

// achieved checks that the generators published a sufficient percentage of the due events. Entries and exits must each
// meet the objective.
func (m measured) achieved(what string, percent int) finding {
	if percent == 0 || m.latencies == nil {
		return finding{}
	}
	want := fmt.Sprintf("at least %d %%", percent)
	var got, missed []string
	for _, side := range []struct {
		name    string
		demand  demand
		starved int64
	}{{"entries", m.entries, m.total.Entry.Starved}, {"exits", m.exits, m.total.Exit.Starved}} {
		due, published := side.demand.due, side.demand.due-side.demand.missed
		if due == 0 {
			continue
		}
		share := 100 * float64(published) / float64(due)
		got = append(got, fmt.Sprintf("%s %s %%", side.name, sharePercent(share, percent)))
		if share < float64(percent) {
			text := fmt.Sprintf("%s of %s due %s were published", number(published), number(due), side.name)
			if side.starved > 0 {
				text += fmt.Sprintf(", %s found no available plate", number(side.starved))
			}
			missed = append(missed, text)
		}
	}
	if m.absent != "" || len(got) == 0 {
		return m.unknown(what, want, "no event was due")
	}
	return passIf(len(missed) == 0, want, strings.Join(got, ", "), fmt.Sprintf("%s is below the objective of %d %%: %s", what, percent, strings.Join(missed, "; ")))
}

// sharePercent formats a percentage with one decimal, or with four decimals if it would otherwise look equal to a
// higher limit.
func sharePercent(share float64, limit int) string {
	text := fmt.Sprintf("%.1f", share)
	if share < float64(limit) && text == fmt.Sprintf("%.1f", float64(limit)) {
		text = fmt.Sprintf("%.4f", share)
	}
	return text
}

// tookPlace checks that every occurrence of the fault with the given name was injected and has ended.
func tookPlace(e Evidence, name string) finding {
	const want = "every occurrence is injected and ends"
	var all, failed, recovered int64
	for _, t := range e.FaultHistory.Totals {
		if t.Fault == name {
			all += t.Occurrences()
			failed += t.NotInjected + t.Aborted
			recovered += t.Recovered
		}
	}
	example := "details are unknown, because the records of old occurrences were removed"
	hasExample := false
	for i := range e.Faults {
		a := &e.Faults[i]
		if a.Fault != name {
			continue
		}
		all++
		switch {
		case a.Outcome == fault.OutcomeRecovered:
			recovered++
		case a.Outcome == fault.OutcomeNotInjected, a.Outcome == fault.OutcomeAborted,
			a.Outcome == fault.OutcomeNotRecovered && a.HealedAt.IsZero():
			failed++
			if !hasExample {
				example, hasExample = a.ID()+": "+excerpt.OneLine(a.Message), true
			}
		}
	}
	switch {
	case failed > 0:
		got := fmt.Sprintf("%d of %d occurrences did not take place as planned", failed, all)
		return finding{outcome: Failed, want: want, got: got, message: fmt.Sprintf("%s of fault %s did not take place as planned: %s",
			ofAll(failed, all), name, example)}
	case all == 0 && !e.Interrupted.IsZero():
		return finding{} // the run was interrupted before the fault was due, so there is nothing to check
	case all == 0:
		return finding{outcome: NotMeasured, want: want, message: fmt.Sprintf(
			"fault %s did not take place: no occurrence of the fault was due between its declaration and the end of the run", name)}
	}
	return finding{outcome: Passed, want: want, got: fmt.Sprintf("%d injected, %d recovered", all, recovered)}
}

// ofAll returns a text such as "2 of 3 occurrences", or "3 occurrences" if n equals the total.
func ofAll(n, all int64) string {
	if n == all {
		return count(n, "occurrence", "occurrences")
	}
	return fmt.Sprintf("%d of %d occurrences", n, all)
}

// recovery checks that the simulation recovered from every fault within the time that the objective allows.
func recovery(e Evidence) finding {
	objective := e.Objectives.MaxRecovery
	if objective == 0 || e.isInterruptedBeforeFaults() {
		return finding{}
	}
	want := "at most " + limit(objective)
	r := recoveries{objective: objective.D()}
	for i := range e.FaultHistory.Totals {
		r.addTotal(&e.FaultHistory.Totals[i])
	}
	for i := range e.Faults {
		r.addOccurrence(&e.Faults[i])
	}
	switch {
	case len(r.late) > 0:
		return finding{outcome: Failed, want: want, got: measurement(r.slowest, r.objective), message: fmt.Sprintf(
			"recovery exceeded the objective of %s: %s", limit(objective), joinFirst(r.late, "; "))}
	case len(r.unmeasured) > 0:
		return finding{outcome: NotMeasured, want: want, message: fmt.Sprintf(
			"it is unknown whether recovery met the objective of %s for %s", limit(objective), r.unknown())}
	case !r.measurable:
		why := "no fault was injected"
		if e.hasFaults() {
			why = "every fault that was injected was ended early"
		}
		return finding{outcome: NotMeasured, want: want, message: fmt.Sprintf("recovery is unknown, so the objective of %s counts as not met: %s", limit(objective), why)}
	}
	return finding{outcome: Passed, want: want, got: measurement(r.slowest, r.objective)}
}

// recoveries collects the recovery times of the faults that were injected and not ended early.
type recoveries struct {
	objective time.Duration
	// late describes the recoveries that took longer than the objective.
	late []string
	// unmeasured lists the occurrences of faults whose recovery time is unknown. example is the ID of one of them, and
	// reason says why its recovery time is unknown.
	unmeasured      []string
	example, reason string
	slowest         time.Duration
	measurable      bool
}

// unknown names the occurrences with an unknown recovery time. It gives only one reason, because most reasons are
// similar.
func (r *recoveries) unknown() string {
	names := joinFirst(r.unmeasured, ", ")
	switch {
	case r.example == "":
		return names
	case len(r.unmeasured) == 1:
		return names + ": " + r.reason
	default:
		return names + ". The reason for " + r.example + ": " + r.reason
	}
}

// addTotal adds old occurrences of one fault, of which only totals remain.
func (r *recoveries) addTotal(t *fault.Total) {
	r.measurable = r.measurable || t.Recovered+t.NotRecovered > 0
	took := time.Duration(t.SlowestSeconds * float64(time.Second))
	r.slowest = max(r.slowest, took)
	if took > r.objective {
		r.late = append(r.late, fmt.Sprintf("the recovery from an occurrence of %s took %s", t.Fault, measurement(took, r.objective)))
	}
	if t.NotRecovered > 0 {
		r.unmeasured = append(r.unmeasured, count(t.NotRecovered, "earlier occurrence of ", "earlier occurrences of ")+t.Fault)
	}
}

// addOccurrence adds one occurrence of a fault. It ignores occurrences that were not injected or were aborted.
func (r *recoveries) addOccurrence(a *fault.Account) {
	if a.InjectedAt.IsZero() || a.Outcome == fault.OutcomeAborted {
		return
	}
	r.measurable = true
	took := time.Duration(a.UnrecoveredSeconds * float64(time.Second))
	if a.RecoverySeconds != nil {
		took = time.Duration(*a.RecoverySeconds * float64(time.Second))
	}
	r.slowest = max(r.slowest, took)
	switch {
	case took > r.objective && a.RecoverySeconds != nil:
		r.late = append(r.late, fmt.Sprintf("%s took %s", a.ID(), measurement(took, r.objective)))
	case took > r.objective:
		r.late = append(r.late, fmt.Sprintf("%s had not recovered after %s", a.ID(), measurement(took, r.objective)))
	case a.Outcome == fault.OutcomeNotRecovered:
		r.unmeasured = append(r.unmeasured, a.ID())
		if r.example == "" {
			r.example, r.reason = a.ID(), excerpt.OneLine(a.Message)
		}
	}
}

// joinFirst joins the first few texts. If there are more texts, joinFirst appends the number of the omitted texts.
func joinFirst(texts []string, separator string) string {
	const named = 5
	if more := len(texts) - named; more > 0 {
		texts = append(slices.Clone(texts[:named]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, separator)
}

func notAborted(e Evidence) finding {
	// Make this check for every aborted run, even if the user set AbortOnFailure to false after the abort.
	if !e.Objectives.AbortOnFailure && e.Aborted == "" {
		return finding{}
	}
	const want = "the run was not ended early"
	if e.Aborted == "" {
		return finding{outcome: Passed, want: want, got: "not ended early"}
	}
	return passIf(false, want, "ended early", "the run was ended early, because the verdict could only be FAIL: "+e.Aborted)
}

// limit formats an objective in the same way as measured durations, so that people can compare objectives and
// measurements.
func limit(objective plan.Duration) string { return terminal.Exact(objective.D()) }
