// Package timeline records what happens in a simulation, second by second, and keeps it in bounded memory.
//
// Each process of a simulation measures one Row a second and hands it to the store (Recorder). The store keeps
// the rows of each process until their minute is over, and then merges them: over processes at once, and over
// time as they grow old (Log). Counts add up, histograms merge exactly, gauges keep their maximum. Everything
// that reports what happened over time reads these rows.
package timeline

import (
	"maps"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
)

// Row is what was measured in one interval, by one process or by all of them. Its zero value says that nothing
// was measured.
type Row struct {
	// Second is the Unix time at which the interval begins.
	Second int64 `json:"t"`
	// Width is the length of the interval in seconds; 0 means 1.
	Width int64 `json:"w,omitempty"`

	Entry Events `json:"entry,omitzero"`
	Exit  Events `json:"exit,omitzero"`
	Gauges

	// Marks are events of note, in the order of their time.
	Marks []Mark `json:"marks,omitempty"`
}

// Events is what was measured of the events of one type. Counts are numbers of events.
type Events struct {
	// Due counts the events that the schedule asked for.
	Due int64 `json:"due,omitempty"`
	// Published counts the events that a generator handed to the broker, Confirmed those that the broker
	// confirmed, of which Matched carry that intent.
	Published int64 `json:"published,omitempty"`
	Confirmed int64 `json:"confirmed,omitempty"`
	Matched   int64 `json:"matched,omitempty"`
	// Starved counts the exits that were not published because no plate was available, Missed the events that
	// were still due when their schedule ended.
	Starved int64 `json:"starved,omitempty"`
	Missed  int64 `json:"missed,omitempty"`
	// Lag is the longest delay of the next event to publish.
	Lag time.Duration `json:"lagNs,omitempty"`

	// Redeliveries counts the deliveries of messages that the broker had delivered before.
	Redeliveries int64 `json:"redeliveries,omitempty"`
	// Effects counts the events that took effect. Each of them is in EndToEnd if its time of schedule is known.
	Effects int64 `json:"effects,omitempty"`
	// Outcomes counts the calls of ProcessMessage by outcome, Errors the failures by pipeline stage.
	Outcomes map[string]int64 `json:"outcomes,omitempty"`
	Errors   map[string]int64 `json:"errors,omitempty"`
	// Processing is the time in ProcessMessage, EndToEnd the time from the schedule to the effect.
	Processing histogram.Snapshot `json:"processing,omitzero"`
	EndToEnd   histogram.Snapshot `json:"endToEnd,omitzero"`
}

// Gauges are values of the whole simulation. A row keeps their maximum in its interval; nil means that no
// process measured them. A second without a row has the gauges of the row before.
type Gauges struct {
	// Ready, Retrying and DeadLetters are numbers of messages in the event, retry and dead-letter queues.
	Ready       *int64 `json:"ready,omitempty"`
	Retrying    *int64 `json:"retrying,omitempty"`
	DeadLetters *int64 `json:"deadLetters,omitempty"`
	// Pool is the number of plates that are available to exits.
	Pool *int64 `json:"pool,omitempty"`
}

// Mark is an event of note, such as the start of a process or the loss of a connection.
type Mark struct {
	// At is when it happened.
	At time.Time `json:"at"`
	// Kind classifies it, Subject names the component or server concerned, Message is one sentence.
	Kind    MarkKind `json:"kind"`
	Subject string   `json:"subject,omitempty"`
	Message string   `json:"message,omitempty"`
}

// MarkKind classifies a mark.
type MarkKind string

// The kinds of marks.
const (
	// MarkStarted and MarkStopped: a process started, or stopped in an orderly way.
	MarkStarted MarkKind = "started"
	MarkStopped MarkKind = "stopped"
	// MarkUnavailable and MarkAvailable: a server stopped answering a process, or answers again.
	MarkUnavailable MarkKind = "unavailable"
	MarkAvailable   MarkKind = "available"
	// MarkStage: a schedule reached its next stage. MarkPhase: the simulation reached its next phase.
	MarkStage MarkKind = "stage"
	MarkPhase MarkKind = "phase"
	// MarkInjected and MarkHealed: a fault took effect, or ended. The subject is the ID of the occurrence.
	MarkInjected MarkKind = "injected"
	MarkHealed   MarkKind = "healed"
	// MarkObjective: an objective was missed for the first time, over all events so far.
	MarkObjective MarkKind = "objective"
)

// maxMarks bounds the marks of one row: the first ones are kept.
const maxMarks = 100

// IsZero reports whether nothing was measured.
func (e Events) IsZero() bool {
	return e.Due == 0 && e.Published == 0 && e.Confirmed == 0 && e.Matched == 0 && e.Starved == 0 && e.Missed == 0 &&
		e.Lag == 0 && e.Redeliveries == 0 && e.Effects == 0 && len(e.Outcomes) == 0 && len(e.Errors) == 0 &&
		e.Processing.IsZero() && e.EndToEnd.IsZero()
}

// seconds returns the length of the row's interval in seconds.
func (r *Row) seconds() int64 { return max(r.Width, 1) }

// Start returns the time at which the interval begins, and End the time at which it ends.
func (r *Row) Start() time.Time { return time.Unix(r.Second, 0).UTC() }

// End returns the time at which the interval ends.
func (r *Row) End() time.Time { return time.Unix(r.Second+r.seconds(), 0).UTC() }

// Of returns the measurements of the events of a type.
func (r *Row) Of(t event.Type) *Events {
	if t == event.TypeEntry {
		return &r.Entry
	}
	return &r.Exit
}

// add adds what another row measured, and widens the interval to hold both.
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

// mergeMarks returns the marks of two rows in the order of time. Every process that loses a server says so: of marks
// that differ only in their time, it returns the first.
func mergeMarks(a, b []Mark) []Mark {
	all := slices.Concat(a, b)
	slices.SortStableFunc(all, func(a, b Mark) int { return a.At.Compare(b.At) })
	seen := map[Mark]bool{}
	all = slices.DeleteFunc(all, func(m Mark) bool {
		m.At = time.Time{}
		repeated := seen[m]
		seen[m] = true
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

// since returns what was measured after earlier, when both hold totals of one process. Lag is not a total: the
// result keeps it.
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

// equal reports whether two sets of gauges have the same values.
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

// sum adds two sets of counts and changes neither.
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

// difference returns the counts of now that are not in before, without those that are 0.
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

// Merge adds up rows whose intervals begin in the same interval of the given width, in seconds, and returns
// one row for each of those intervals, in the order of time. It does not change the rows.
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

// Sum adds up all rows.
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

// mod is the remainder of a division, from 0 to divisor-1 for negative numbers as well.
func mod(n, divisor int64) int64 { return (n%divisor + divisor) % divisor }
