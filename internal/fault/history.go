package fault

import (
	"cmp"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// History summarizes the occurrences whose records were removed to limit the size of a journal.
type History struct {
	// Totals counts the occurrences in the history.
	Totals []Total `json:"totals,omitempty"`
	// Disturbed contains the intervals in which the occurrences in the history disturbed the simulation. The intervals
	// are in chronological order and do not overlap.
	Disturbed []Disturbance `json:"disturbed,omitempty"`
}

// Disturbance is the interval from the injection of a fault to the recovery or, without a baseline, to
// Account.DisturbsUntil. A merged Disturbance covers several faults.
type Disturbance struct {
	From int64 `json:"from"` // Unix time in milliseconds
	// To is a Unix time in milliseconds. It is 0 if the fault never ended, or if the simulation did not recover.
	To int64 `json:"to,omitempty"`
}

// mergedWith returns a disturbance that covers both d and later, which must not begin before d.
func (d Disturbance) mergedWith(later Disturbance) Disturbance {
	merged := Disturbance{From: d.From}
	if d.To != 0 && later.To != 0 {
		merged.To = max(d.To, later.To)
	}
	return merged
}

// interval returns the interval of the timeline in which rows may show effects of the disturbance.
func (d Disturbance) interval() interval {
	i := interval{from: time.UnixMilli(d.From).Add(-rowShift)}
	if d.To != 0 {
		i.to = time.UnixMilli(d.To)
	}
	return i
}

// Disturbs reports whether the row of the timeline that covers [from, to) may show effects of a fault in the history.
func (h *History) Disturbs(from, to time.Time) bool {
	row := measured{start: from, end: to}
	return slices.ContainsFunc(h.Disturbed, func(d Disturbance) bool { return row.overlaps(d.interval()) })
}

// Occurrences returns the number of occurrences in the history.
func (h *History) Occurrences() (n int64) {
	for i := range h.Totals {
		n += h.Totals[i].Occurrences()
	}
	return n
}

// With returns a history that contains the occurrences of h and those of the given records.
func (h *History) With(records []Record, now time.Time) History {
	accounts := Accounts(records, Run{})
	disturbed := slices.Clone(h.Disturbed)
	for i := range accounts {
		a := &accounts[i]
		if !a.Outcome.IsFinal() {
			// The recovery cannot be measured without the record.
			a.Outcome = OutcomeNotRecovered
		}
		if a.InjectedAt.IsZero() {
			continue
		}
		d := Disturbance{From: a.InjectedAt.UnixMilli()}
		if to := a.disturbance().to; !to.IsZero() {
			const roundUp = time.Millisecond - 1
			d.To = to.Add(roundUp).UnixMilli()
		}
		disturbed = append(disturbed, d)
	}
	return History{Totals: Totals(*h, accounts), Disturbed: mergeDisturbances(disturbed, now)}
}

// mergeDisturbances sorts disturbances by their beginning. It merges two successive ones if no row of the timeline fits
// between them.
func mergeDisturbances(all []Disturbance, now time.Time) []Disturbance {
	slices.SortFunc(all, func(a, b Disturbance) int { return cmp.Compare(a.From, b.From) })
	merged := all[:0]
	for _, d := range all {
		n := len(merged)
		if n == 0 || hasRowBetween(merged[n-1].interval(), d.interval(), now) {
			merged = append(merged, d)
			continue
		}
		merged[n-1] = merged[n-1].mergedWith(d)
	}
	return merged
}

// hasRowBetween reports whether a row of the timeline can lie completely between a and b. The width of the row depends
// on its age.
func hasRowBetween(a, b interval, now time.Time) bool {
	if a.to.IsZero() {
		return false
	}
	width := time.Duration(widthAt(now.Sub(b.from))) * time.Second
	begin := a.to.Truncate(width)
	if begin.Before(a.to) {
		begin = begin.Add(width)
	}
	return !begin.Add(width).After(b.from)
}

// widthAt returns the width, in seconds, of the rows of the timeline that have the given age. Older rows may be wider.
func widthAt(age time.Duration) int64 {
	for _, t := range timeline.Tiers() {
		if t.Keep == 0 || age <= t.Keep {
			return t.Width
		}
	}
	return 1
}

// keepLatest is the number of the latest occurrences whose records are never removed. The status of a simulation shows
// the same number of occurrences.
const keepLatest = 20

// Removable returns the indexes of removable records in the order of removal: settled records first, then better
// outcomes. It omits records that are not final, the latest final records, and the longest recovery for each fault and
// outcome.
func Removable(records []Record) []int {
	type candidate struct {
		index   int
		settled bool // whether the record needs no further measurement
		account Account
	}
	type kind struct {
		fault   string
		target  plan.FaultTarget
		action  plan.FaultAction
		outcome Outcome
	}
	var all []candidate
	for i := range records {
		if r := &records[i]; r.IsFinal() {
			all = append(all, candidate{i, r.Measured != nil || r.InjectedAt.IsZero(), Accounts(records[i:i+1], Run{})[0]})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.account.AtSeconds, b.account.AtSeconds) })
	all = all[:max(0, len(all)-keepLatest)]
	worst := map[kind]*Account{}
	of := func(a *Account) kind { return kind{a.Fault, a.Target, a.Action, a.Outcome} }
	for i := range all {
		if a := &all[i].account; worst[of(a)] == nil || compare(a, worst[of(a)]) > 0 {
			worst[of(a)] = a
		}
	}
	order := make([]candidate, 0, len(all))
	for i := range all {
		if a := &all[i].account; worst[of(a)] != a {
			order = append(order, all[i])
		}
	}
	slices.SortStableFunc(order, func(a, b candidate) int {
		if a.settled != b.settled {
			if a.settled {
				return -1
			}
			return 1
		}
		return compare(&a.account, &b.account)
	})
	indexes := make([]int, len(order))
	for i := range order {
		indexes[i] = order[i].index
	}
	return indexes
}
