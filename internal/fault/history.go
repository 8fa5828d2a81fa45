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
	// Totals sums up the occurrences whose records were removed.
	Totals []Total `json:"totals,omitempty"`
	// Disturbed contains the intervals in which the simulation was disturbed by occurrences whose records have been
	// removed. The intervals are in chronological order and do not overlap.
	Disturbed []Disturbance `json:"disturbed,omitempty"`
}

// Disturbance is the time from the injection of a fault to the recovery from it, as Unix times in milliseconds. If there
// was no baseline to compare with, the field To is the time Account.DisturbsUntil. The field To is 0 if the fault never
// ended, or if the simulation stayed worse than before the fault.
//
// To limit the number of disturbances, a disturbance is merged with the next one if the timeline has no undisturbed row
// between them. The merged disturbance lasts until the later of their ends. It has no end if one of them has none.
type Disturbance struct {
	From int64 `json:"from"`
	To   int64 `json:"to,omitempty"`
}

// mergedWith returns a disturbance that covers d and the given disturbance, which must not begin before d.
func (d Disturbance) mergedWith(later Disturbance) Disturbance {
	merged := Disturbance{From: d.From}
	if d.To != 0 && later.To != 0 {
		merged.To = max(d.To, later.To)
	}
	return merged
}

// interval returns the interval in which rows of the timeline may show effects of the faults.
func (d Disturbance) interval() interval {
	i := interval{from: time.UnixMilli(d.From).Add(-rowShift)}
	if d.To != 0 {
		i.to = time.UnixMilli(d.To)
	}
	return i
}

// Disturbs reports whether the row of the timeline that covers [from, to) may show effects of one of the faults.
// Account.Disturbs does the same for a single occurrence of a fault.
func (h *History) Disturbs(from, to time.Time) bool {
	row := measured{start: from, end: to}
	return slices.ContainsFunc(h.Disturbed, func(d Disturbance) bool { return row.overlaps(d.interval()) })
}

// Occurrences returns the number of occurrences that the history contains.
func (h *History) Occurrences() (n int64) {
	for i := range h.Totals {
		n += h.Totals[i].Occurrences()
	}
	return n
}

// With returns a history that also contains the occurrences of the given records. An occurrence whose recovery is not
// known yet counts as NotRecovered, because its recovery is no longer measured.
func (h *History) With(records []Record, now time.Time) History {
	accounts := Accounts(records, Run{})
	disturbed := slices.Clone(h.Disturbed)
	for i := range accounts {
		a := &accounts[i]
		if !a.Outcome.IsFinal() {
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

// mergeDisturbances sorts intervals by their beginning. It merges two successive intervals unless the timeline may have
// an undisturbed row between them.
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

// hasRowBetween reports whether the timeline may have a row between two intervals.
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

// widthAt returns the width in seconds of those rows of the timeline that have at least the given age.
func widthAt(age time.Duration) int64 {
	for _, t := range timeline.Tiers() {
		if t.Keep == 0 || age <= t.Keep {
			return t.Width
		}
	}
	return 1
}

// keepLatest is the number of latest occurrences whose records must not be removed. The status of a simulation shows
// this number of occurrences.
const keepLatest = 20

// Removable returns the indexes of the records that may be removed, in the order in which to remove them. Records with
// the best outcomes come first. Records whose recovery is not measured yet come last. Removable omits the faults that
// have not ended, and the latest keepLatest occurrences of all faults together. It also omits one occurrence for each
// fault and each outcome, namely the worst one. So an example of each outcome remains.
func Removable(records []Record) []int {
	type candidate struct {
		index   int
		settled bool
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
