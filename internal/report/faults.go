package report

import (
	"fmt"
	"strings"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

// FaultLine describes one occurrence of a fault as formatted text.
type FaultLine struct {
	// ID identifies the occurrence. Action says what was done to which target, such as "Kill Redis". Hit contains
	// the names of the affected instances.
	ID, Action, Hit string
	// At is when the fault took effect, or was due if it never took effect, relative to the start of the run.
	At      string
	Lasted  string // how long the fault was in effect
	Outcome fault.Outcome
	// Recovery is how long the recovery took. The fields PeakP99, PeakLag, PeakBacklog, Redeliveries, Duplicates and
	// Lost are the measured effects of the fault.
	Recovery, PeakP99, PeakLag, PeakBacklog, Redeliveries, Duplicates, Lost string
	// Message is the reason why the simulation did not recover. It is empty if the simulation recovered.
	Message string
}

// IsGood reports whether the simulation recovered from the fault.
func (l FaultLine) IsGood() bool { return l.Outcome == fault.OutcomeRecovered }

// FaultLines formats the occurrences of faults.
func (r *Run) FaultLines() []FaultLine {
	var lines []FaultLine
	for i := range r.Faults {
		lines = append(lines, r.faultLine(&r.Faults[i]))
	}
	return lines
}

// Warnings returns important facts that do not change the verdict.
func (r *Run) Warnings() []string {
	var warnings, names []string
	if r.CutShort != "" {
		warnings = append(warnings, r.CutShort+"; the verdict says nothing about the rest of the schedule")
	}
	for i := range r.Faults {
		if a := &r.Faults[i]; a.Outcome == fault.OutcomeNotRecovered {
			names = append(names, a.ID())
		}
	}
	if len(names) == 0 || r.Objectives.MaxRecovery > 0 {
		return warnings
	}
	// The totals also count the occurrences that the report does not list.
	all := int64(0)
	for _, t := range r.totals() {
		all += t.NotRecovered
	}
	names = names[:min(len(names), 5)]
	list := strings.Join(names, ", ")
	if more := all - int64(len(names)); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return append(warnings, fmt.Sprintf("the simulation did not recover from %s; the verdict does not depend on that, because spec.objectives.maxRecovery is not set", list))
}

// hitOf returns the names of the instances that a fault hit, and how many names were omitted.
func hitOf(a *fault.Account) string {
	names := strings.Join(a.Hit, ", ")
	switch {
	case a.HitOmitted > 0 && names == "":
		return terminal.Count(int64(a.HitOmitted)) + " instances"
	case a.HitOmitted > 0:
		names += fmt.Sprintf(" and %d more", a.HitOmitted)
	}
	return names
}

// TotalLine describes all occurrences of one fault as formatted text.
type TotalLine struct {
	// Fault is the name of the fault. Action says what was done to which target.
	Fault, Action string
	// Occurrences counts all occurrences. Injected counts the occurrences that took effect. Each of the fields
	// Recovered, NotRecovered, NotInjected and Aborted counts the occurrences with the outcome of the same name.
	Occurrences, Injected, Recovered, NotRecovered, NotInjected, Aborted string
	// Mean and Slowest are the mean and the longest recovery time. Redeliveries and Duplicates are sums over all
	// occurrences.
	Mean, Slowest, Redeliveries, Duplicates string
}

// totals returns the totals of all faults. Reports of earlier versions have none, so it adds up the listed occurrences.
func (r *Run) totals() []fault.Total {
	if len(r.FaultTotals) == 0 {
		return fault.Totals(fault.History{}, r.Faults)
	}
	return r.FaultTotals
}

// OmittedFaults returns sentences about the omitted occurrences, or "" if all are listed. An omitted occurrence may be
// worse than a listed one, because the operator always keeps the latest.
func (r *Run) OmittedFaults() string {
	if r.FaultsOmitted == 0 {
		return ""
	}
	text := fmt.Sprintf("The report omits %s occurrences. The listed occurrences include the worst ones.", terminal.Count(r.FaultsOmitted))
	if r.FaultTotalLines() != nil {
		text += " The totals include the omitted occurrences."
	}
	return text
}

// FaultTotalLines formats the totals of the faults. It returns nil if they are unknown, or if the list of occurrences
// suffices.
func (r *Run) FaultTotalLines() []TotalLine {
	// Reports of earlier versions have no totals, and may not list all occurrences.
	if r.FaultsOmitted > 0 && len(r.FaultTotals) == 0 {
		return nil
	}
	totals := r.totals()
	if int64(len(totals)) == int64(len(r.Faults))+r.FaultsOmitted {
		return nil
	}
	var lines []TotalLine
	for i := range totals {
		t := &totals[i]
		line := TotalLine{
			Fault: t.Fault, Action: string(t.Action) + " " + string(t.Target), Occurrences: terminal.Count(t.Occurrences()),
			Injected: terminal.Count(t.Injected), Recovered: terminal.Count(t.Recovered), NotRecovered: terminal.Count(t.NotRecovered),
			NotInjected: terminal.Count(t.NotInjected), Aborted: terminal.Count(t.Aborted), Mean: Unmeasured, Slowest: Unmeasured,
			Redeliveries: terminal.Count(t.Redeliveries), Duplicates: terminal.Count(t.DuplicatesSuppressed),
		}
		if t.Recovered > 0 {
			line.Mean = terminal.Duration(Seconds(t.RecoverySeconds / float64(t.Recovered)))
			line.Slowest = terminal.Duration(Seconds(t.SlowestSeconds))
		}
		lines = append(lines, line)
	}
	return lines
}

func (r *Run) faultLine(a *fault.Account) FaultLine {
	line := FaultLine{
		ID: a.ID(), Action: string(a.Action) + " " + string(a.Target), Hit: hitOf(a),
		At: terminal.Clock(Seconds(a.AtSeconds)), Lasted: Unmeasured, Outcome: a.Outcome,
		Recovery: Unmeasured, PeakP99: Unmeasured, PeakLag: Unmeasured, PeakBacklog: Unmeasured,
		Redeliveries: Unmeasured, Duplicates: Unmeasured, Lost: Unmeasured,
	}
	if a.Outcome != fault.OutcomeRecovered {
		line.Message = a.Message
	}
	if a.InjectedAt.IsZero() {
		return line
	}
	if !r.StartTime.IsZero() {
		line.At = terminal.Clock(max(a.InjectedAt.Sub(r.StartTime), 0))
	}
	if !a.HealedAt.IsZero() {
		line.Lasted = terminal.Duration(a.HealedAt.Sub(a.InjectedAt))
	}
	if a.RecoverySeconds != nil {
		line.Recovery = terminal.Duration(Seconds(*a.RecoverySeconds))
	}
	if a.PeakP99Seconds != nil {
		line.PeakP99 = terminal.Duration(Seconds(*a.PeakP99Seconds))
	}
	if a.PeakBacklog != nil {
		line.PeakBacklog = terminal.Count(*a.PeakBacklog)
	}
	if a.Lost != nil {
		line.Lost = terminal.Count(*a.Lost)
	}
	line.PeakLag = terminal.Duration(Seconds(a.PeakLagSeconds))
	line.Redeliveries, line.Duplicates = terminal.Count(a.Redeliveries), terminal.Count(a.DuplicatesSuppressed)
	return line
}

// Band is an interval of the time axis in which a fault disturbed the simulation. Charts shade it.
type Band struct{ X, Width, Class, Label string }

// bands returns up to two bands for each occurrence: one for the fault, and one for the recovery.
func (c curves) bands(faults []fault.Account) []Band {
	x := timeAxis(c.end)
	var all []Band
	for i := range faults {
		a := &faults[i]
		if a.InjectedAt.IsZero() {
			continue
		}
		seconds := func(of, otherwise float64, isZero bool) float64 {
			if isZero {
				return otherwise
			}
			return of
		}
		from := float64(a.InjectedAt.UnixMilli())/1000 - c.start
		healed := seconds(float64(a.HealedAt.UnixMilli())/1000-c.start, c.end, a.HealedAt.IsZero())
		recovered := seconds(float64(a.RecoveredAt.UnixMilli())/1000-c.start, c.end, a.RecoveredAt.IsZero())
		label := a.ID() + ": " + string(a.Action) + " " + string(a.Target)
		band := func(from, to float64, class string) {
			left := x.at(from)
			// Extend the band of an instantaneous fault so that it is visible.
			all = append(all, Band{X: coordinate(left), Width: coordinate(max(x.at(to)-left, 1)), Class: class, Label: label})
		}
		if recovered > healed {
			band(healed, recovered, "band recovering")
		}
		band(from, healed, "band")
	}
	return all
}
