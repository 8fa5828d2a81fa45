package report

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/timeline"
)

// renderedNotes renders a report with notes, as HTML and as Markdown.
func renderedNotes(t *testing.T, d *Document) (html, text string) {
	t.Helper()
	page, err := d.HTML()
	if err != nil {
		t.Fatal(err)
	}
	return string(page), string(d.Markdown())
}

func TestRenderings_NotableEvents_AreListedWithTheNumbersThatTheChartsShow(t *testing.T) {
	t.Parallel()
	d := sample()
	for i := range d.Timeline {
		d.Timeline[i].Marks = nil
	}
	d.Timeline[0].Marks = []timeline.Mark{{At: start(), Kind: timeline.MarkStarted, Subject: "processor-0"}}
	d.Timeline[50].Marks = []timeline.Mark{{At: start().Add(50 * time.Second), Kind: timeline.MarkUnavailable, Subject: "Redis", Message: "connection <refused>"}}
	html, text := renderedNotes(t, d)
	for _, want := range []string{
		`<td class="n">1</td><td class="n">0:00</td><td class="w">processor-0 started</td><td class="w"></td>`,
		`<td class="n">2</td><td class="n">0:50</td><td class="w">Redis <span class="no">unavailable</span></td><td class="w">connection &lt;refused&gt;</td>`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("HTML does not contain %s", want)
		}
	}
	for _, want := range []string{"|1|0:00|processor-0 started||", `|2|0:50|Redis unavailable|connection \<refused\>|`} {
		if !strings.Contains(text, want) {
			t.Errorf("Markdown does not contain %s:\n%s", want, text)
		}
	}
	charts := d.charts(nil)
	for _, number := range []string{"1", "2"} {
		label := regexp.MustCompile(`<text class="x" x="[0-9.]+" y="12">` + number + `</text>`)
		if n := len(label.FindAllString(html, -1)); n != len(charts) {
			t.Errorf("%d of %d charts show the number %s", n, len(charts), number)
		}
	}
}

func TestRenderings_ManyNotableEvents_ListsFailuresAndSaysHowManyAreOmitted(t *testing.T) {
	t.Parallel()
	d := sample()
	const ordinary, failures = 3000, 3
	for i := range d.Timeline {
		row := &d.Timeline[i]
		row.Marks = nil
		for k := range ordinary / len(d.Timeline) {
			row.Marks = append(row.Marks, timeline.Mark{At: row.Start(), Kind: timeline.MarkStarted, Subject: fmt.Sprintf("process-%d-%d", i, k)})
		}
	}
	last := &d.Timeline[len(d.Timeline)-1]
	for k := range failures {
		last.Marks = append(last.Marks, timeline.Mark{At: last.Start(), Kind: timeline.MarkDown, Subject: fmt.Sprintf("failed-%d", k), Message: strings.Repeat("é", 10_000)})
	}
	notes, omitted := d.notes()
	if len(notes) != maxNotes || omitted != ordinary+failures-maxNotes {
		t.Fatalf("%d events, %d omitted, want %d and %d", len(notes), omitted, maxNotes, ordinary+failures-maxNotes)
	}
	if first, failed := notes[0], notes[maxNotes-failures]; first.Subject != "process-0-0" || first.Number != 1 || failed.Subject != "failed-0" || failed.Number != maxNotes-failures+1 {
		t.Errorf("the first event is %+v, the first failure %+v", first, failed)
	}
	html, text := renderedNotes(t, d)
	for name, rendering := range map[string]string{"HTML": html, "Markdown": text} {
		if !strings.Contains(rendering, "The table leaves out 2,903 further events. It keeps failures rather than other events.") {
			t.Errorf("%s does not say how many events it leaves out", name)
		}
		if strings.Contains(rendering, strings.Repeat("é", maxMessage)) {
			t.Errorf("%s contains a whole message of 20 kB", name)
		}
	}
	if lines := strings.Count(html, `<line class="mark`); lines != maxNotes*len(d.charts(nil)) {
		t.Errorf("the charts have %d lines, want one for each of %d events in each chart", lines, maxNotes)
	}
}

func TestNotes_UnknownStart_TimesCountFromTheFirstRow(t *testing.T) {
	t.Parallel()
	d := New(Run{}, Environment{}, []timeline.Row{{Second: 1000}, {Second: 1070, Marks: []timeline.Mark{{At: time.Unix(1070, 0), Kind: timeline.MarkDown}}}})
	if notes, _ := d.notes(); len(notes) != 1 || notes[0].At != "1:10" {
		t.Errorf("the events are %+v", notes)
	}
}

func TestChartNumbers_RandomNotes_AreAllLabeledWithoutOverlap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := curves{end: 100}
		var notes []Note
		at := 0.0
		for i := range rapid.IntRange(1, maxNotes).Draw(t, "events") {
			at += rapid.Float64Range(0, 20).Draw(t, "distance")
			notes = append(notes, Note{Number: i + 1, time: time.UnixMilli(int64(at * 1000))})
		}
		next, right := 1, areaLeft-digitWidth
		for _, label := range c.marks(notes).Numbers {
			first, last, isRange := strings.Cut(label.Label, "–")
			if !isRange {
				last = first
			}
			center, err := strconv.ParseFloat(label.At, 64)
			half := digitWidth * float64(len([]rune(label.Label))) / 2
			if err != nil || first != strconv.Itoa(next) || center-half < right || center+half > areaRight+digitWidth {
				t.Fatalf("label %+v, the next event is %d, and the label before ends at %v", label, next, right)
			}
			if next, err = strconv.Atoi(last); err != nil {
				t.Fatal(err)
			}
			next++
			right = center + half
		}
		if next != len(notes)+1 {
			t.Fatalf("the labels end before event %d of %d", next, len(notes))
		}
	})
}
