package fault

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// Account describes what one occurrence of a fault did to the simulation.
type Account struct {
	// Fault is the name of the fault. Number is the number of the occurrence of this fault, counted from 0.
	Fault  string           `json:"fault"`
	Number int              `json:"number"`
	Target plan.FaultTarget `json:"target"`
	Action plan.FaultAction `json:"action"`
	// AtSeconds is when the occurrence was due, in seconds since the start of the schedule.
	AtSeconds float64 `json:"atSeconds"`
	// Hit contains the names of the instances that were hit. HitOmitted is the number of further instances that were
	// hit. Their names were omitted to limit the size of a report.
	Hit        []string `json:"hit,omitempty"`
	HitOmitted int      `json:"hitOmitted,omitempty"`

	// InjectedAt is when the fault took effect. HealedAt is when it ended. RecoveredAt is when latency and backlog had
	// returned to their levels before the fault. Each of them is zero until that has happened.
	InjectedAt  time.Time `json:"injectedAt,omitzero"`
	HealedAt    time.Time `json:"healedAt,omitzero"`
	RecoveredAt time.Time `json:"recoveredAt,omitzero"`
	// RecoverySeconds is how long the simulation took to recover. It is nil if the simulation has not recovered. It is
	// the time from the end of the fault to RecoveredAt. Only for an action without a duration, such as a kill, the
	// time begins at InjectedAt, because the restart is part of the recovery. Time after HealedAt does not count while
	// another fault is in effect, but counts while the simulation recovers from another fault.
	RecoverySeconds *float64 `json:"recoverySeconds,omitempty"`
	// UnrecoveredSeconds is set if the simulation has not recovered. It is a lower bound for the time that the recovery
	// takes, counted in the same way as RecoverySeconds. It does not grow while latency and backlog are back at their
	// previous level, even if the recovery is not proved yet.
	UnrecoveredSeconds float64 `json:"unrecoveredSeconds,omitempty"`

	// The following figures cover the time from InjectedAt to RecoveredAt, or to the end of the run if the
	// simulation has not recovered. If these times overlap for several faults, what happened in the overlap is
	// counted for each of them. A nil figure was not measured.
	//
	// PeakLagSeconds is the longest lag of a generator behind its schedule. PeakP99Seconds is the largest 99th
	// percentile of the end-to-end latency in any row of the timeline.
	//
	// PeakBacklog is the largest number of events that waited at one time. There are two measurements of this number,
	// and PeakBacklog is the larger one. The first counts the messages that were ready in the event queues or waited
	// for a retry. The second counts the events that were due before a row of the timeline and took effect in that row
	// or later, so it includes events that waited in a generator or a processor.
	PeakLagSeconds float64  `json:"peakLagSeconds"`
	PeakBacklog    *int64   `json:"peakBacklog,omitempty"`
	PeakP99Seconds *float64 `json:"peakP99Seconds,omitempty"`
	// Redeliveries counts the deliveries of messages that the broker had delivered before. DuplicatesSuppressed
	// counts the deliveries of events that had already taken effect.
	Redeliveries         int64 `json:"redeliveries"`
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`
	// Lost is 0 if no event was lost in the whole run. Otherwise it is nil, because it is unknown which fault
	// caused the loss.
	Lost *int64 `json:"lost,omitempty"`

	// DisturbsUntil is set if the recovery is unknown, because there is no baseline to compare the time after the fault
	// with. The time from InjectedAt to DisturbsUntil then counts as disturbed. For all other faults, DisturbsUntil is
	// zero: they disturb the simulation until RecoveredAt, or without an end if RecoveredAt is zero.
	DisturbsUntil time.Time `json:"-"`

	Outcome Outcome `json:"outcome"`
	// Message is one sentence that explains the outcome.
	Message string `json:"message"`
}

// Outcome says how an occurrence of a fault ended, or how far it has progressed.
type Outcome string

// The outcomes. The first three are not final, because the occurrence is still in progress.
const (
	// OutcomeInjecting means that the fault is being injected and is not in effect yet.
	OutcomeInjecting Outcome = "Injecting"
	// OutcomeActive means that the fault is in effect.
	OutcomeActive Outcome = "Active"
	// OutcomeRecovering means that the fault has ended, but the simulation has not recovered yet.
	OutcomeRecovering Outcome = "Recovering"

	// OutcomeRecovered means that latency and backlog returned to the level before the fault, and stayed there
	// for 5 s.
	OutcomeRecovered Outcome = "Recovered"
	// OutcomeNotRecovered means that latency or backlog did not return to the level before the fault, or that
	// it is unknown whether they did.
	OutcomeNotRecovered Outcome = "NotRecovered"
	// OutcomeNotInjected means that the fault could not be injected, or had no effect.
	OutcomeNotInjected Outcome = "NotInjected"
	// OutcomeAborted means that the simulation ended or was suspended before the fault had ended, or that the fault did
	// not end as declared, for example because a paused container was restarted.
	OutcomeAborted Outcome = "Aborted"
)

// IsFinal reports whether the outcome can no longer change.
func (o Outcome) IsFinal() bool {
	return o != OutcomeInjecting && o != OutcomeActive && o != OutcomeRecovering
}

// Outcomes returns the final outcomes, from the best to the worst.
func Outcomes() []Outcome {
	return []Outcome{OutcomeRecovered, OutcomeAborted, OutcomeNotRecovered, OutcomeNotInjected}
}

// Run holds the measurements of a simulation into which faults were injected.
type Run struct {
	// Rows contains the rows of the timeline, the earliest first. If it is empty, recovery cannot be
	// measured.
	Rows []timeline.Row
	// End is when the generators stopped. While they are running, it is the time up to which Rows are complete.
	// Recovery cannot be measured after End, because then there is no load.
	End time.Time
	// Ended is true if the run is over, so that every outcome is final. Aborted is true if the run was ended early.
	Ended, Aborted bool
	// Lost is the number of events that the run lost, or nil if that is unknown.
	Lost *int64
	// History describes earlier occurrences whose records were removed. They have no account, but the time in which
	// they disturbed the simulation does not count as normal.
	History History
}

// incompleteTime is how old a row of a running simulation must be to count as complete. Until then, some
// processes may not have written their part of the row.
const incompleteTime = 2 * time.Second

// RunSoFar returns the measurements of a running simulation from its timeline. The parameter named end is when its
// generators stop, or zero if that is unknown.
func RunSoFar(rows []timeline.Row, end time.Time) Run {
	run := Run{Rows: rows}
	if n := len(rows); n > 0 {
		run.End = rows[n-1].End().Add(-incompleteTime)
	}
	if !end.IsZero() && end.Before(run.End) {
		run.End = end
	}
	return run
}

// Accounts returns one Account for each record, in the order in which the occurrences were due.
func Accounts(records []Record, run Run) []Account {
	accounts, _ := measure(records, run)
	return accounts
}

// measure returns one Account for each record, in the order in which the occurrences were due. It also returns the
// baselines that it used. The keys are the IDs of the occurrences.
func measure(records []Record, run Run) ([]Account, map[string]*Baseline) {
	records = slices.Clone(records)
	// Remove the monotonic clock readings, which some of these times have and others lack. If both kinds of times were
	// mixed, the lengths of the parts of an interval might not add up to the length of the interval.
	for i := range records {
		r := &records[i]
		r.InjectedAt, r.HealedAt = r.InjectedAt.Round(0), r.HealedAt.Round(0)
	}
	run.End = run.End.Round(0)
	slices.SortStableFunc(records, func(a, b Record) int {
		if a.InjectedAt.IsZero() != b.InjectedAt.IsZero() {
			if a.InjectedAt.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.InjectedAt.Compare(b.InjectedAt), cmp.Compare(a.At, b.At), cmp.Compare(a.Fault, b.Fault), cmp.Compare(a.Number, b.Number))
	})
	s := newSearch(run, records)
	accounts, baselines := make([]Account, 0, len(records)), make(map[string]*Baseline, len(records))
	for i := range records {
		r := &records[i]
		a := s.account(r)
		accounts = append(accounts, a)
		if !r.InjectedAt.IsZero() {
			baselines[r.ID()] = s.currentBaseline
			// The list s.active contains only the records with an injection. These also come first in the list records,
			// so the index i identifies the same record in both lists.
			s.active[i].recovered = a.disturbance().to
			if a.InjectedAt.IsZero() {
				s.active[i].recovered = r.InjectedAt // the fault had no effect
			}
		}
	}
	slices.SortStableFunc(accounts, func(a, b Account) int { return cmp.Compare(a.AtSeconds, b.AtSeconds) })
	return accounts, baselines
}

// account returns the Account for one record. It must be called for all records in the order of their
// injection.
func (s *search) account(r *Record) Account {
	if r.Measured != nil {
		a := *r.Measured
		a.Hit, a.Lost = r.Hit, s.lost()
		s.use(r.Baseline)
		if !a.InjectedAt.IsZero() {
			s.disturbUntil(a.InjectedAt)
			s.disturb(a.disturbance())
		}
		return a
	}
	a := Account{
		Fault: r.Fault, Number: r.Number, Target: r.Target, Action: r.Action, AtSeconds: r.At.Seconds(), Hit: r.Hit,
		InjectedAt: r.InjectedAt, HealedAt: r.HealedAt,
	}
	a.Lost = s.lost()
	if r.InjectedAt.IsZero() {
		a.Outcome, a.Message = s.notInjected(r)
		return a
	}
	s.disturbUntil(r.InjectedAt)
	if why := s.contradiction(r); why != "" {
		a.InjectedAt, a.HealedAt = time.Time{}, time.Time{}
		a.Outcome, a.Message = OutcomeNotInjected, "The fault had no effect, although the injector says that it took effect: "+why
		return a
	}
	found := s.recovery(r)
	if found.ok {
		a.RecoveredAt = found.at
		seconds := s.undisturbed(r, found.at).Seconds()
		a.RecoverySeconds = &seconds
	} else if from := r.recoversFrom(); !from.IsZero() {
		a.UnrecoveredSeconds = s.undisturbed(r, latest(slices.MinFunc([]time.Time{found.at, s.run.End}, time.Time.Compare), from)).Seconds()
	}
	a.Outcome, a.Message = s.injected(r, found)
	s.measure(&a)
	if s.currentBaseline == nil && !a.HealedAt.IsZero() {
		a.DisturbsUntil = disturbsUntil(a.InjectedAt, a.HealedAt)
	}
	s.disturb(a.disturbance())
	return a
}

func (s *search) lost() *int64 {
	if s.run.Lost != nil && *s.run.Lost == 0 {
		return s.run.Lost
	}
	return nil
}

// isSettled reports whether later measurements cannot change the account: the simulation has recovered, or the
// timeline has proved that the fault had no effect.
func (a *Account) isSettled(r *Record, run Run) bool {
	return r.IsFinal() && !r.InjectedAt.IsZero() && !run.End.Before(r.HealedAt) && (!a.RecoveredAt.IsZero() || a.Outcome == OutcomeNotInjected)
}

// Disturbs reports whether the row of the timeline that covers [from, to) may show effects of the fault. This
// is the case if, at any time in [from, to+rowShift), the fault was in effect or the simulation had not
// recovered from it yet. If the time of the recovery is unknown, Disturbs uses the time DisturbsUntil instead.
func (a *Account) Disturbs(from, to time.Time) bool {
	row := measured{start: from, end: to}
	return !a.InjectedAt.IsZero() && row.overlaps(a.disturbance())
}

// disturbance returns the interval in which rows of the timeline may show effects of the fault.
func (a *Account) disturbance() interval {
	return interval{a.InjectedAt.Add(-rowShift), cmp.Or(a.RecoveredAt, a.DisturbsUntil)}
}

// notInjected returns the outcome and the message for an occurrence that did not take effect.
func (s *search) notInjected(r *Record) (Outcome, string) {
	switch {
	case r.State == NotInjected:
		return OutcomeNotInjected, "The fault " + r.Failure()
	case r.State == Aborted:
		return OutcomeAborted, "The fault was not injected: " + cmp.Or(r.Reason, "the simulation ended before the injection")
	case s.run.Ended:
		return OutcomeNotInjected, "The fault counts as not injected: it is unknown whether it took effect"
	}
	return OutcomeInjecting, "The fault is being injected"
}

// injected returns the outcome and the message for an occurrence that took effect.
func (s *search) injected(r *Record, found recovery) (Outcome, string) {
	switch {
	case r.State == Aborted:
		return OutcomeAborted, "The fault was ended early: " + cmp.Or(r.Reason, "the simulation ended before the fault had ended")
	case r.HealedAt.IsZero() && s.run.Ended:
		return OutcomeNotRecovered, "The fault never ended"
	case r.HealedAt.IsZero():
		return OutcomeActive, "The fault is in effect"
	case found.ok:
		return OutcomeRecovered, "Latency and backlog returned to their previous level " + s.after(r, found.at)
	case !s.run.Ended && len(s.rows) == 0:
		return OutcomeRecovering, "The fault has ended"
	case s.run.Ended:
		return OutcomeNotRecovered, s.notRecovered(r, found)
	}
	return OutcomeRecovering, s.recovering(r, found)
}

// notRecovered returns the message for an occurrence from which the simulation did not recover before the run ended.
func (s *search) notRecovered(r *Record, found recovery) string {
	switch {
	case found.unknown != "":
		return "It is unknown whether latency and backlog returned to their previous level: " + found.unknown
	case found.isNormal:
		return "The run ended less than 5 s after latency and backlog had returned to their previous level" + s.meanwhile(r)
	}
	return "Latency and backlog did not return to their previous level " + s.untilEnd(r) + ": " + found.violation + s.meanwhile(r)
}

// untilEnd says how much time the run had to recover from the fault of r. The text is a part of a sentence, such as
// "in the 2.5 s between the end of the fault and the end of the run".
func (s *search) untilEnd(r *Record) string {
	begin, left := "the fault", s.undisturbed(r, s.run.End)
	if r.Action.Lasts() {
		begin = "the end of the fault"
	}
	text := fmt.Sprintf("in the %s between %s and the end of the run", terminal.Duration(left), begin)
	if left < s.run.End.Sub(r.recoversFrom()) {
		text += withoutOthers
	}
	return text
}

// recovering returns the message for an occurrence from which the simulation has not recovered yet.
func (s *search) recovering(r *Record, found recovery) string {
	switch {
	case found.unknown != "":
		return "It is not known yet whether latency and backlog returned to their previous level: " + found.unknown
	case found.isNormal:
		return "Latency and backlog returned to their previous level, but the measurements since then cover less than 5 s"
	}
	return "Latency and backlog have not returned to their previous level: " + found.violation + s.meanwhile(r)
}

// after returns the end of a sentence, such as "2.5s after the end of the fault", that says how long the
// simulation needed to recover.
func (s *search) after(r *Record, recovered time.Time) string {
	took := s.undisturbed(r, recovered)
	text := terminal.Duration(took) + " after the "
	switch {
	case !r.Action.Lasts():
		text += "fault"
	case took == 0:
		text = "at the end of the fault"
	default:
		text += "end of the fault"
	}
	if took < recovered.Sub(r.recoversFrom()) {
		text += withoutOthers
	}
	if took > 0 {
		text += s.aftermath(r, recovered)
	}
	return text
}

const withoutOthers = ", not counting the time in which other faults were in effect"

// measure sets those figures of an account that cover the time from injection to recovery, such as the peak lag.
func (s *search) measure(a *Account) {
	for i := range s.rows {
		row := &s.rows[i]
		if !row.overlaps(interval{a.InjectedAt.Add(-rowShift), a.RecoveredAt}) {
			continue
		}
		a.PeakLagSeconds = max(a.PeakLagSeconds, row.lag.Seconds())
		if n := row.waiting(); n != nil && (a.PeakBacklog == nil || *n > *a.PeakBacklog) {
			a.PeakBacklog = n
		}
		if row.endToEnd.Count() > 0 {
			p99 := row.endToEnd.Quantile(0.99).Seconds()
			if a.PeakP99Seconds == nil || p99 > *a.PeakP99Seconds {
				a.PeakP99Seconds = &p99
			}
		}
		a.Redeliveries += row.redelivered
		a.DuplicatesSuppressed += row.duplicates
	}
}

// ID returns a text that identifies the occurrence within its simulation, such as "redis-crash/3".
func (a *Account) ID() string { return occurrenceID(a.Fault, a.Number) }

// Worst returns the n accounts with the worst outcomes, in their original order. The function Outcomes lists the
// outcomes from the best to the worst. If outcomes are equal, the account with the longer recovery is worse.
func Worst(accounts []Account, n int) []Account {
	if len(accounts) <= n {
		return accounts
	}
	order := make([]int, len(accounts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return compare(&accounts[j], &accounts[i]) })
	order = order[:n]
	slices.Sort(order)
	worst := make([]Account, 0, n)
	for _, i := range order {
		worst = append(worst, accounts[i])
	}
	return worst
}

// Abridge returns copies of accounts in which the list Hit has at most n names of instances.
func Abridge(accounts []Account, n int) []Account {
	short := slices.Clone(accounts)
	for i := range short {
		if a := &short[i]; len(a.Hit) > n {
			a.HitOmitted += len(a.Hit) - n
			a.Hit = a.Hit[:n:n]
		}
	}
	return short
}

// compare returns a positive number if account a is worse than account b, and a negative number if b is worse.
// The worse outcome is decisive, then the longer recovery.
func compare(a, b *Account) int {
	severity := func(o Outcome) int { return slices.Index(Outcomes(), o) }
	recovery := func(a *Account) float64 {
		if a.RecoverySeconds != nil {
			return *a.RecoverySeconds
		}
		return a.UnrecoveredSeconds
	}
	return cmp.Or(cmp.Compare(severity(a.Outcome), severity(b.Outcome)), cmp.Compare(recovery(a), recovery(b)))
}
