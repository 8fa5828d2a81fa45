package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"time"

	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/terminal"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// maxSize is the maximum size of a JSON document that Read accepts, in bytes.
const maxSize = 64 << 20

// ReadFile reads a report from a JSON file.
func ReadFile(path string) (*Document, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err // the error of os.Open names the file
	}
	defer func() { _ = file.Close() }()
	d, err := Read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Read reads a JSON report of at most 64 MiB, and ignores unknown fields. It rejects impossible values and
// contradictions, such as the verdict PASS without checks.
func Read(r io.Reader) (*Document, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	switch {
	case err != nil:
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err // the caller adds the path of the file to the error
		}
		return nil, err
	case len(text) > maxSize:
		return nil, fmt.Errorf("the file is larger than %d MiB: this is not a report", maxSize>>20)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("the file is empty: this is not a report")
	case bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")):
		return nil, errors.New("the file is encoded as UTF-16: save it as UTF-8")
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark
	// Read the version first, because the fields of another version may have other types.
	var head struct {
		Version *int            `json:"version"`
		Verdict *ledger.Outcome `json:"verdict"`
	}
	if err := decode(text, &head); err != nil {
		return nil, fmt.Errorf("the file is not a report in JSON: %w", err)
	}
	switch {
	case head.Version == nil || head.Verdict == nil:
		return nil, errors.New(`not a report: the field "version" or "verdict" is missing; make a report with 'parking simulate --report FILE.json'`)
	case *head.Version != Version:
		return nil, fmt.Errorf("version %d of the report format is not supported: this program reads version %d; use the version of parking that wrote the report", *head.Version, Version)
	}
	var d Document
	if err := decode(text, &d); err != nil {
		return nil, fmt.Errorf("the report is invalid: %w", err)
	}
	if err := errors.Join(requireFields(text), d.validate()); err != nil {
		return nil, fmt.Errorf("the report is invalid: %s", excerpt.OneLine(err.Error()))
	}
	return &d, nil
}

// decode decodes a JSON object and ignores unknown fields. Errors name the invalid fields and the expected values.
func decode(text []byte, into any) error {
	return document.Format{Expected: map[reflect.Type]string{
		reflect.TypeFor[time.Time]():          "must be a time, such as \"2026-05-17T12:00:00Z\"",
		reflect.TypeFor[plan.Duration]():      "must be a duration, such as \"30s\"",
		reflect.TypeFor[histogram.Snapshot](): "must be a histogram, such as {\"sumNs\": 1500, \"buckets\": [[-160, 2]]}",
	}}.DecodeKnown(text, into)
}

// requiredFields returns the names of the fields that each report has.
func requiredFields() []string {
	return []string{
		"version", "verdict", "reasons", "checks", "simulation", "elapsedSeconds", "drainSeconds", "ledger", "rates", "latencySeconds",
		"objectives", "environment",
	}
}

// requireFields returns an error for the first required field that a JSON object lacks.
func requireFields(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	for _, name := range requiredFields() {
		if _, exists := members[name]; !exists {
			return field.Required(field.Path(name), "each report has this field")
		}
	}
	return nil
}

// Write writes the report as indented JSON, with one line per row of the timeline.
func (d *Document) Write(w io.Writer) error {
	text, err := d.JSON()
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// JSON returns the report as indented JSON, with one line per row of the timeline.
func (d *Document) JSON() ([]byte, error) {
	rows := d.Timeline
	head := *d
	head.Timeline = nil
	text, err := encode(head, "  ")
	if err != nil || len(rows) == 0 {
		return text, err
	}
	var b bytes.Buffer
	b.Write(bytes.TrimSuffix(text, []byte("\n}\n")))
	b.WriteString(",\n  \"timeline\": [")
	for i := range rows {
		row, err := encode(&rows[i], "")
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    ")
		b.Write(bytes.TrimSpace(row))
	}
	b.WriteString("\n  ]\n}\n")
	return b.Bytes(), nil
}

// encode returns a value as JSON, followed by a newline. It escapes invisible characters.
func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", indent)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return terminal.CleanLines(b.Bytes()), err
}

// mergedWidths returns the widths of timeline rows, in seconds, that Bounded tries in this order.
func mergedWidths() []int64 {
	return []int64{2, 5, 10, 30, 60, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600}
}

const (
	maxBoundedFaults = 200 // occurrences of faults in a shrunken report
	maxBoundedHit    = 5   // names of instances per occurrence
)

// Bounded returns the report as JSON of at most limit bytes. As far as necessary, it shrinks the faults, then the
// timeline, and finally omits the manifest.
func (d *Document) Bounded(limit int) ([]byte, error) {
	bounded := *d
	var text []byte
	for _, shrink := range bounded.shrinkSteps(limit) {
		shrink()
		var err error
		if text, err = bounded.JSON(); err != nil || len(text) <= limit {
			return text, err
		}
	}
	return nil, fmt.Errorf("the report has %d bytes even without its timeline and its manifest: at most %d are allowed", len(text), limit)
}

// shrinkSteps returns the steps by which Bounded shrinks a report. The first step does nothing, because the report may
// be small enough.
func (d *Document) shrinkSteps(limit int) []func() {
	steps := []func(){func() {}, d.keepWorstFaults, func() { d.abridgeHit(limit / 2) }}
	rows := d.Timeline
	for _, width := range mergedWidths() {
		steps = append(steps, func() { d.Timeline = timeline.Merge(width, rows...) })
	}
	return append(steps, func() { d.Timeline = nil }, func() { d.Environment.Manifest = nil })
}

func (d *Document) keepWorstFaults() {
	if omitted := len(d.Faults) - maxBoundedFaults; omitted > 0 {
		d.Faults, d.FaultsOmitted = fault.Worst(d.Faults, maxBoundedFaults), d.FaultsOmitted+int64(omitted)
	}
}

// abridgeHit shortens the lists of instances that were hit, unless the report without its timeline is within the limit,
// in bytes.
func (d *Document) abridgeHit(limit int) {
	head := *d
	head.Timeline = nil
	if text, err := head.JSON(); err == nil && len(text) > limit {
		d.Faults = fault.Abridge(d.Faults, maxBoundedHit)
	}
}
