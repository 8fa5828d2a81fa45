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
	// Hit contains the names of the instances that were hit.
	Hit []string `json:"hit,omitempty"`
	// HitOmitted is the number of names that were left out of Hit, to limit the size of a report or a journal.
	HitOmitted int `json:"hitOmitted,omitempty"`

	// InjectedAt is when the fault took effect, or zero before that.
	InjectedAt time.Time `json:"injectedAt,omitzero"`
	// HealedAt is when a paused or isolated target was released, or when a killed target was running again. It is zero
	// before that.
	HealedAt time.Time `json:"healedAt,omitzero"`
	// RecoveredAt is when latency and backlog had returned to the levels before the fault, or zero before that.
	RecoveredAt time.Time `json:"recoveredAt,omitzero"`
	// RecoverySeconds is the recovery time, from HealedAt or, for an action without a duration, from InjectedAt. It
	// excludes the time under other faults, and is nil without a recovery.
	RecoverySeconds *float64 `json:"recoverySeconds,omitempty"`
	// UnrecoveredSeconds is a lower bound for the recovery time if the simulation has not recovered. It does not grow
	// while latency and backlog are normal.
	UnrecoveredSeconds float64 `json:"unrecoveredSeconds,omitempty"`

	// The fields PeakLagSeconds to DuplicatesSuppressed cover the time from InjectedAt to RecoveredAt or the end of the
	// run, including effects of other faults. A nil field was not measured.

	// PeakLagSeconds is the longest lag of a generator behind its schedule.
	PeakLagSeconds float64 `json:"peakLagSeconds"`
	// PeakBacklog is a lower bound for the largest number of events that waited at the same time in queues, generators
	// and processors.
	PeakBacklog *int64 `json:"peakBacklog,omitempty"`
	// PeakP99Seconds is the largest 99th percentile of the end-to-end latency in any row of the timeline.
	PeakP99Seconds *float64 `json:"peakP99Seconds,omitempty"`
	// Redeliveries counts the deliveries of messages that the broker had already delivered at least once.
	// DuplicatesSuppressed counts the deliveries of events that had already taken effect.
	Redeliveries         int64 `json:"redeliveries"`
	DuplicatesSuppressed int64 `json:"duplicatesSuppressed"`
	// Lost is 0 if no event was lost in the whole run. Otherwise it is nil, because it is unknown which fault
	// caused the loss.
	Lost *int64 `json:"lost,omitempty"`

	// DisturbsUntil is the estimated end of the disturbance by an ended fault without a Baseline. It is zero for every
	// other fault.
	DisturbsUntil time.Time `json:"-"`

	Outcome Outcome `json:"outcome"`
	// Message is one sentence that explains the outcome.
	Message string `json:"message"`
}

// Outcome says how an occurrence of a fault ended, or how far it has progressed.
type Outcome string

// The outcomes of an occurrence. The first three are not final.
const (
	// OutcomeInjecting means that the fault is being injected and is not in effect yet.
	OutcomeInjecting Outcome = "Injecting"
	// OutcomeActive means that the fault is in effect.
	OutcomeActive Outcome = "Active"
	// OutcomeRecovering means that the fault has ended, but the simulation has not recovered yet.
	OutcomeRecovering Outcome = "Recovering"

	// OutcomeRecovered means that latency and backlog returned to the levels before the fault, and stayed at these
	// levels for 5 s.
	OutcomeRecovered Outcome = "Recovered"
	// OutcomeNotRecovered means that the fault never ended, that latency or backlog did not return to the level before
	// the fault, or that the recovery is unknown.
	OutcomeNotRecovered Outcome = "NotRecovered"
	// OutcomeNotInjected means that the fault could not be injected, or had no effect.
	OutcomeNotInjected Outcome = "NotInjected"
	// OutcomeAborted means that the fault did not end as planned: the simulation ended or was suspended first, or the
	// fault ended early.
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
	// Rows contains the rows of the timeline, the earliest first. If Rows is empty, no recovery can be measured.
	Rows []timeline.Row
	// End is when the generators stopped or, while they run, the time up to which Rows is complete. Later rows may
	// lack load or data, so they do not prove a recovery.
	End time.Time
	// Ended is true if the run is over, so that every outcome is final. Aborted is true if the run was ended early.
	Ended, Aborted bool
	// Lost is the number of events that the run lost, or nil if the number is unknown.
	Lost *int64
	// History describes earlier occurrences whose records were removed. They get no Account.
	History History
}

// incompleteTime is the time after which a row of a running simulation counts as complete. A younger row may lack the
// values of some processes.
const incompleteTime = 2 * time.Second

// RunSoFar returns the measurements of a running simulation from its timeline. The parameter end is when the generators
// stop, or zero if that is unknown.
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

// Accounts measures the effects of faults. It returns one Account per record, in the order in which the occurrences
// were due.
func Accounts(records []Record, run Run) []Account {
	accounts, _ := measure(records, run)
	return accounts
}

// measure returns the accounts, as Accounts does. It also returns the baseline of each injected occurrence, by the ID
// of the occurrence.
func measure(records []Record, run Run) ([]Account, map[string]*Baseline) {
	records = slices.Clone(records)
	// Only some of the times have a monotonic clock reading, which would distort differences. Remove it.
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
			// The slices records and s.active begin with the injected records in the same order.
			s.active[i].recovered = a.disturbance().to
			if a.InjectedAt.IsZero() {
				s.active[i].recovered = r.InjectedAt // the fault had no effect, so the simulation needed no recovery
			}
		}
	}
	slices.SortStableFunc(accounts, func(a, b Account) int { return cmp.Compare(a.AtSeconds, b.AtSeconds) })
	return accounts, baselines
}

// account returns the Account of the fault that a record describes. Call it once for each record, in the order of the
// injections.
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
		a.Outcome, a.Message = OutcomeNotInjected, "The fault had no effect, although it was reported as injected: "+why
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

// isSettled reports whether the account is final: either the simulation has recovered, or the timeline has proved that
// the fault had no effect.
func (a *Account) isSettled(r *Record, run Run) bool {
	return r.IsFinal() && !r.InjectedAt.IsZero() && !run.End.Before(r.HealedAt) && (!a.RecoveredAt.IsZero() || a.Outcome == OutcomeNotInjected)
}

// Disturbs reports whether the row of the timeline that covers [from, to) may show effects of the fault.
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

// untilEnd returns a phrase such as "in the 2.50 s between the end of the fault and the end of the run".
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

// recovering returns the message for a fault from which the simulation has not recovered yet.
func (s *search) recovering(r *Record, found recovery) string {
	switch {
	case found.unknown != "":
		return "It is not known yet whether latency and backlog returned to their previous level: " + found.unknown
	case found.isNormal:
		return "Latency and backlog returned to their previous level, but the measurements since then cover less than 5 s"
	}
	return "Latency and backlog have not returned to their previous level: " + found.violation + s.meanwhile(r)
}

// after returns a phrase that says how long the recovery took, such as "2.50 s after the end of the fault".
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

// measure sets the fields of an Account from PeakLagSeconds to DuplicatesSuppressed.
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

// Worst returns the n worst accounts in their original order. Equal outcomes are ranked by the recovery time: the
// longer is worse.
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

// Abridge returns copies of the accounts with at most n instance names in each list Hit.
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

// compare returns a positive number if a is worse than b, and a negative number if b is worse than a.
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
