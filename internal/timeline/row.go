// Package timeline records what happens in a simulation, second by second, in a bounded amount of memory.
//
// A Recorder in each process sends one Row per second to the store. A Log merges rows, first across processes, and
// later into rows that cover more time: counts add up, histograms merge exactly, and gauges keep their maximum.
package timeline

import (
	"maps"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
)

// Row contains what one process, or all processes together, measured in one interval. The zero value means that nothing
// was measured.
type Row struct {
	// Second is the start of the row's interval, as a Unix time in seconds.
	Second int64 `json:"t"`
	// Width is the length of the interval in seconds. 0 means 1.
	Width int64 `json:"w,omitempty"`

	Entry Events `json:"entry,omitzero"`
	Exit  Events `json:"exit,omitzero"`
	Gauges

	// Marks are the notable events in the interval of the row, in chronological order.
	Marks []Mark `json:"marks,omitempty"`
}

// Events contains the measurements of the events of one type, such as entries. Every count is a number of events unless
// its comment says otherwise.
type Events struct {
	// Due is the number of events that became due according to the schedule.
	Due int64 `json:"due,omitempty"`
	// Published is the number of events that a generator has passed to its broker client. The client keeps each event
	// until it is confirmed.
	Published int64 `json:"published,omitempty"`
	// Confirmed is the number of events that the broker has confirmed.
	Confirmed int64 `json:"confirmed,omitempty"`
	// Matched is the number of confirmed exits that the generator expected to end a visit.
	Matched int64 `json:"matched,omitempty"`
	// Starved is the number of exits that were not published because no plate was available.
	Starved int64 `json:"starved,omitempty"`
	// Missed is the number of overdue events skipped when the schedule paused or ended, or when the generator stopped.
	Missed int64 `json:"missed,omitempty"`
	// Lag is the maximum delay of a generator in this interval: how long the oldest unpublished event was overdue.
	Lag time.Duration `json:"lagNs,omitempty"`

	// Redeliveries is the number of deliveries of messages that the broker had already delivered before.
	Redeliveries int64 `json:"redeliveries,omitempty"`
	// Effects is the number of events that took effect. EndToEnd covers only those events whose due time is known.
	Effects int64 `json:"effects,omitempty"`
	// Outcomes counts attempts to process an event, by outcome. An attempt is a call of ProcessMessage in package
	// processor.
	Outcomes map[string]int64 `json:"outcomes,omitempty"`
	// Errors contains the numbers of failures, by the stage of the pipeline.
	Errors map[string]int64 `json:"errors,omitempty"`
	// Processing is the distribution of the durations of the attempts to process an event.
	Processing histogram.Snapshot `json:"processing,omitzero"`
	// EndToEnd is the distribution of the time from when an event was due until it took effect.
	EndToEnd histogram.Snapshot `json:"endToEnd,omitzero"`
}

// Gauges contains values of the whole simulation. Each value is the maximum in the interval of the row, or nil if it
// was not measured. A second without a row has the gauges of the previous row.
type Gauges struct {
	// Ready is the number of messages in the event queues, without those that processors hold.
	Ready *int64 `json:"ready,omitempty"`
	// Retrying is the number of messages in the retry queues.
	Retrying *int64 `json:"retrying,omitempty"`
	// DeadLetters is the number of messages in the dead-letter queue.
	DeadLetters *int64 `json:"deadLetters,omitempty"`
	// Pool is the number of plates that are available to exits.
	Pool *int64 `json:"pool,omitempty"`
}

// Mark is an event of note, such as the start of a process or the loss of a connection.
type Mark struct {
	// At is the time at which the event happened.
	At time.Time `json:"at"`
	// Kind says what happened. Subject is what the mark is about, such as a component or a server. Message describes
	// the event in a sentence.
	Kind    MarkKind `json:"kind"`
	Subject string   `json:"subject,omitempty"`
	Message string   `json:"message,omitempty"`
}

// MarkKind says what kind of notable event a mark records.
type MarkKind string

// These are the kinds of marks.
const (
	// MarkStarted means that a process started. MarkStopped means that a process stopped in an orderly way.
	MarkStarted MarkKind = "started"
	MarkStopped MarkKind = "stopped"
	// MarkDown means that a process of a component or server failed, or that Kubernetes ended its pod.
	MarkDown MarkKind = "down"
	// MarkUnavailable means that a process lost a connection to a server, or that the server stopped responding to it.
	// MarkAvailable means that the server responds again.
	MarkUnavailable MarkKind = "unavailable"
	MarkAvailable   MarkKind = "available"
	// MarkStage means that a schedule reached its next stage. MarkPhase means that the simulation reached its next
	// phase.
	MarkStage MarkKind = "stage"
	MarkPhase MarkKind = "phase"
	// MarkInjected means that a fault took effect. MarkHealed means that a fault ended. In both cases, Subject is the
	// ID of the fault's occurrence.
	MarkInjected MarkKind = "injected"
	MarkHealed   MarkKind = "healed"
	// MarkObjective means that the check in Subject failed for the first time, or that a latency or lag exceeded its
	// objective.
	MarkObjective MarkKind = "objective"
)

// maxMarks is the maximum number of notable events (marks) in a row of the timeline. Later marks are dropped.
const maxMarks = 100

// IsZero reports whether e contains no measurements.
func (e Events) IsZero() bool {
	return e.Due == 0 && e.Published == 0 && e.Confirmed == 0 && e.Matched == 0 && e.Starved == 0 && e.Missed == 0 &&
		e.Lag == 0 && e.Redeliveries == 0 && e.Effects == 0 && len(e.Outcomes) == 0 && len(e.Errors) == 0 &&
		e.Processing.IsZero() && e.EndToEnd.IsZero()
}

func (r *Row) seconds() int64 { return max(r.Width, 1) }

// Start returns the time at which the interval begins.
func (r *Row) Start() time.Time { return time.Unix(r.Second, 0).UTC() }

// End returns the time at which the interval ends.
func (r *Row) End() time.Time { return time.Unix(r.Second+r.seconds(), 0).UTC() }

// Of returns the measurements of one type of events.
func (r *Row) Of(t event.Type) *Events {
	if t == event.TypeEntry {
		return &r.Entry
	}
	return &r.Exit
}

// add adds the measurements of another row to r, and extends the interval of r to cover both rows.
func (r *Row) add(other *Row) {
	end := max(r.Second+r.seconds(), other.Second+other.seconds())
	r.Second = min(r.Second, other.Second)
	r.Width = end - r.Second
	r.Entry.add(&other.Entry)
	r.Exit.add(&other.Exit)
	r.Gauges.add(other.Gauges)
	if len(other.Marks) > 0 {
		r.Marks = mergeMarks(r.Marks, other.Marks)
	}
}

// mergeMarks merges marks in chronological order. It drops repetitions, and marks that differ from the previous mark of
// their subject only in time: processes notice a failure at different times.
func mergeMarks(a, b []Mark) []Mark {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(a, b Mark) int { return a.At.Compare(b.At) })
	seen, previous := map[Mark]bool{}, map[string]Mark{}
	all = slices.DeleteFunc(all, func(m Mark) bool {
		m.At = m.At.Round(0).UTC() // make equal times identical: remove the monotonic clock reading and the time zone
		repeated := seen[m]
		seen[m] = true
		m.At = time.Time{}
		repeated = repeated || previous[m.Subject] == m
		previous[m.Subject] = m
		return repeated
	})
	return all[:min(len(all), maxMarks)]
}

func (e *Events) add(other *Events) {
	e.Due += other.Due
	e.Published += other.Published
	e.Confirmed += other.Confirmed
	e.Matched += other.Matched
	e.Starved += other.Starved
	e.Missed += other.Missed
	e.Lag = max(e.Lag, other.Lag)
	e.Redeliveries += other.Redeliveries
	e.Effects += other.Effects
	e.Outcomes = sum(e.Outcomes, other.Outcomes)
	e.Errors = sum(e.Errors, other.Errors)
	e.Processing = histogram.Merge(e.Processing, other.Processing)
	e.EndToEnd = histogram.Merge(e.EndToEnd, other.EndToEnd)
}

// since returns how much the totals of a process have grown since an earlier measurement. Lag is not a total, so the
// result contains the current lag.
func (e *Events) since(earlier *Events) Events {
	return Events{
		Due:          e.Due - earlier.Due,
		Published:    e.Published - earlier.Published,
		Confirmed:    e.Confirmed - earlier.Confirmed,
		Matched:      e.Matched - earlier.Matched,
		Starved:      e.Starved - earlier.Starved,
		Missed:       e.Missed - earlier.Missed,
		Lag:          e.Lag,
		Redeliveries: e.Redeliveries - earlier.Redeliveries,
		Effects:      e.Effects - earlier.Effects,
		Outcomes:     difference(e.Outcomes, earlier.Outcomes),
		Errors:       difference(e.Errors, earlier.Errors),
		Processing:   e.Processing.Since(earlier.Processing),
		EndToEnd:     e.EndToEnd.Since(earlier.EndToEnd),
	}
}

func (g *Gauges) add(other Gauges) {
	for i, mine := range g.all() {
		if theirs := *other.all()[i]; *mine == nil || theirs != nil && *theirs > **mine {
			*mine = theirs
		}
	}
}

func (g *Gauges) equal(other Gauges) bool {
	for i, mine := range g.all() {
		theirs := *other.all()[i]
		if (*mine == nil) != (theirs == nil) || theirs != nil && *theirs != **mine {
			return false
		}
	}
	return true
}

func (g *Gauges) all() [4]**int64 {
	return [...]**int64{&g.Ready, &g.Retrying, &g.DeadLetters, &g.Pool}
}

// sum returns the sum of two maps of counts. It does not change either map.
func sum(a, b map[string]int64) map[string]int64 {
	if len(b) == 0 {
		return a
	}
	total := maps.Clone(a)
	if total == nil {
		total = make(map[string]int64, len(b))
	}
	for name, n := range b {
		total[name] += n
	}
	return total
}

// difference returns the counts in now minus the counts in before. It omits differences of 0.
func difference(now, before map[string]int64) map[string]int64 {
	var diff map[string]int64
	for name, n := range now {
		if d := n - before[name]; d != 0 {
			if diff == nil {
				diff = map[string]int64{}
			}
			diff[name] = d
		}
	}
	return diff
}

// Merge combines the rows that begin in the same interval. width is the length of an interval in seconds. Each interval
// begins at a multiple of this length. The results are in chronological order.
func Merge(width int64, rows ...Row) []Row {
	merged := map[int64]*Row{}
	for i := range rows {
		start := rows[i].Second - mod(rows[i].Second, width)
		into, ok := merged[start]
		if !ok {
			into = &Row{Second: start, Width: width}
			merged[start] = into
		}
		into.add(&rows[i])
	}
	all := make([]Row, 0, len(merged))
	for _, start := range slices.Sorted(maps.Keys(merged)) {
		all = append(all, *merged[start])
	}
	return all
}

// Sum combines all rows into one row, whose interval contains all of their intervals.
func Sum(rows ...Row) Row {
	if len(rows) == 0 {
		return Row{}
	}
	total := Row{Second: rows[0].Second, Width: rows[0].seconds()}
	for i := range rows {
		total.add(&rows[i])
	}
	return total
}

// mod returns the remainder of a division. Unlike the result of the operator %, it is never negative.
func mod(n, divisor int64) int64 { return (n%divisor + divisor) % divisor }

// FillGaps fills the gaps in chronological rows, until the Unix time end, with rows of at most width seconds. The new
// rows repeat the previous gauges, and have no counts.
func FillGaps(rows []Row, width, end int64) []Row {
	if len(rows) == 0 {
		return nil
	}
	var filled []Row
	next := rows[0].Second
	fill := func(until int64) {
		for ; next < until; next += width {
			gauges := filled[len(filled)-1].Gauges
			filled = append(filled, Row{Second: next, Width: min(width, until-next), Gauges: gauges})
		}
		next = max(next, until)
	}
	for i := range rows {
		fill(rows[i].Second)
		filled = append(filled, rows[i])
		next = max(next, rows[i].End().Unix())
	}
	fill(end)
	return filled
}
