package report

import (
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	maxNotes   = 100 // in a page or a Markdown document
	maxMessage = 300 // length of the message of a note, in bytes
)

// Note is a mark of the timeline as formatted text. Reports list the notes under the heading "Events of note".
type Note struct {
	// Number identifies the note in the charts. The first note has the number 1.
	Number int
	// At is the time since the start of the run.
	At                     string
	Kind, Subject, Message string
	// IsBad reports whether the mark says that something failed, such as a process that went down.
	IsBad bool
	time  time.Time
}

// notes returns at most maxNotes marks of the timeline in chronological order, and the number of omitted marks.
// Failures and earlier marks take precedence.
func (d *Document) notes() (notes []Note, omitted int64) {
	marks := timeline.MarksOf(d.Timeline)
	if len(marks) > maxNotes {
		omitted = int64(len(marks) - maxNotes)
		slices.SortStableFunc(marks, func(a, b timeline.Mark) int { return rank(a.Kind) - rank(b.Kind) })
		marks = marks[:maxNotes]
		slices.SortStableFunc(marks, func(a, b timeline.Mark) int { return a.At.Compare(b.At) })
	}
	origin := d.origin()
	for i, m := range marks {
		if len(m.Message) > maxMessage {
			m.Message = excerpt.Of(m.Message, maxMessage) + "…"
		}
		notes = append(notes, Note{
			Number: i + 1, At: terminal.Clock(max(m.At.Sub(origin), 0)), Kind: string(m.Kind), Subject: m.Subject, Message: m.Message,
			IsBad: rank(m.Kind) == 0, time: m.At,
		})
	}
	return notes, omitted
}

// rank returns 0 for the marks of failures, and 1 for all other marks.
func rank(k timeline.MarkKind) int {
	switch k {
	case timeline.MarkDown, timeline.MarkUnavailable, timeline.MarkInjected, timeline.MarkObjective:
		return 0
	}
	return 1
}

// origin returns the time at which the time axis of the run begins: the start of the run or, if that is unknown, of its
// timeline.
func (d *Document) origin() time.Time {
	if d.StartTime.IsZero() && len(d.Timeline) > 0 {
		return d.Timeline[0].Start()
	}
	return d.StartTime
}

// Marks contains the lines and the labels that show the notes in a chart.
type Marks struct {
	Lines   []Mark
	Numbers []Tick
}

// Mark is the vertical line that shows the time of a note in a chart.
type Mark struct{ At, Class string }

// marks returns the lines and the labels that show the notes in a chart.
func (c curves) marks(notes []Note) Marks {
	x := timeAxis(c.end)
	var all Marks
	var labels []noteLabel
	for _, n := range notes {
		at := x.at(float64(n.time.UnixMilli())/1000 - c.start)
		class := "mark"
		if n.IsBad {
			class = "mark bad"
		}
		all.Lines = append(all.Lines, Mark{At: coordinate(at), Class: class})
		label := noteLabel{n.Number, n.Number, at, at}
		for last := len(labels) - 1; last >= 0 && labels[last].right() > label.left(); last-- {
			label.first, label.from = labels[last].first, labels[last].from
			labels = labels[:last]
		}
		labels = append(labels, label)
	}
	for _, l := range labels {
		all.Numbers = append(all.Numbers, Tick{coordinate(l.middle()), l.text()})
	}
	return all
}

// noteLabel shows the number of a note in a chart, or the numbers of consecutive notes that are close together.
type noteLabel struct {
	first, last int     // the numbers of the first and the last note
	from, to    float64 // the x coordinates of the first and the last note
}

func (n noteLabel) text() string {
	if n.first == n.last {
		return strconv.Itoa(n.first)
	}
	return fmt.Sprintf("%d–%d", n.first, n.last)
}

// digitWidth is the width of a digit, in SVG units.
const digitWidth = 8.0

// halfWidth returns half of the width of the label and the space after it.
func (n noteLabel) halfWidth() float64 {
	return digitWidth * float64(utf8.RuneCountInString(n.text())+1) / 2
}

// middle returns the x coordinate of the middle of the label, which is always inside the area of the chart.
func (n noteLabel) middle() float64 {
	half := n.halfWidth() - digitWidth
	return min(max((n.from+n.to)/2, areaLeft+half), areaRight-half)
}

func (n noteLabel) left() float64  { return n.middle() - n.halfWidth() }
func (n noteLabel) right() float64 { return n.middle() + n.halfWidth() }
