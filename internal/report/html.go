package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/terminal"
)

//go:embed report.html.tmpl
var pageTemplate string

//go:embed report.css
var styleSheet string

type page struct {
	*Document
	// Style is the style sheet.
	Style template.CSS
	// Policy is a content security policy that permits only Style, so that the page can neither run scripts nor load
	// files.
	Policy string
	Title  string
	// Objectives contains the checks that compare the run with its objectives.
	Objectives []ledger.Check
	Equation   []Equation
	Counters   []Count
	Tiles      []Tile
	Charts     []Chart
	// Notes are the events that the page lists, such as failures and faults. NotesOmitted is the number of events left
	// out.
	Notes        []Note
	NotesOmitted int64
	// Comparison is set only on a page that compares two runs.
	Comparison *Comparison
}

// Tile is a prominent figure at the top of the page.
type Tile struct{ Name, Value, Help, Class string }

// HTML returns the report as a self-contained HTML page, which works offline and without scripts.
func (d *Document) HTML() ([]byte, error) {
	p := newPage(d, d.Simulation+": "+string(d.Outcome))
	if d.Ledger != nil && d.Ledger.DataKept() {
		p.Equation, p.Counters = Equations(d.Ledger), Counts(d.Ledger)
	}
	p.Objectives, p.Tiles = ObjectiveLines(&d.Verdict), d.tiles()
	p.Notes, p.NotesOmitted = d.notes()
	p.Charts = d.charts(p.Notes)
	return p.render("report")
}

func newPage(d *Document, title string) *page {
	sum := sha256.Sum256([]byte(styleSheet))
	return &page{
		Document: d, Title: title, Style: template.CSS(styleSheet), //nolint:gosec // a constant
		Policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
	}
}

func (p *page) render(name string) ([]byte, error) {
	t, err := template.New("").Funcs(template.FuncMap{
		"count":    terminal.Count,
		"outcome":  outcomeText,
		"duration": func(s float64) string { return terminal.Duration(Seconds(s)) },
		"clock":    func(s float64) string { return terminal.Clock(Seconds(s)) },
		"time":     timeText,
		"passed":   func(o ledger.Outcome) bool { return o == ledger.Pass },
	}).Parse(pageTemplate)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.ExecuteTemplate(&b, name, p)
	return terminal.CleanLines(b.Bytes()), err
}

func (d *Document) tiles() []Tile {
	rates, latencies := d.Rates.RateLines(), d.LatencySeconds.LatencyLines()
	tiles := []Tile{
		{Name: "entries/s", Value: rates[0].Achieved, Help: "of " + rates[0].Target + " due"},
		{Name: "exits/s", Value: rates[1].Achieved, Help: "of " + rates[1].Target + " due"},
		{Name: ledger.CheckEndToEnd, Value: latencies[1].P99, Help: "p50 " + latencies[1].P50},
		{Name: ledger.CheckProcessing, Value: latencies[0].P99, Help: "p50 " + latencies[0].P50},
	}
	if l := d.Ledger; l != nil && l.DataKept() {
		lost := Tile{Name: "lost", Value: terminal.Count(l.Lost), Help: terminal.Count(l.Processed()) + " events processed"}
		if l.Lost > d.Objectives.MaxLost {
			lost.Class = "bad"
		}
		tiles = append(tiles, lost)
	}
	return tiles
}
