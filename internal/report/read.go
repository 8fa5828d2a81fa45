package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

const (
	// maxSize is the maximum size of a JSON document that Read accepts, in bytes. The report of a busy simulation
	// of one week is much smaller.
	maxSize = 64 << 20
	// maxYears limits the times and widths of the rows in a timeline, in years since 1970.
	maxYears    = 8000
	yearSeconds = 366 * 24 * 3600
)

// ReadFile reads a report from a JSON file.
func ReadFile(path string) (*Document, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err // the error names the file
	}
	defer func() { _ = file.Close() }() // closing a file after reading loses no data
	d, err := Read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Read reads a report in JSON form of at most 64 MiB. It ignores unknown fields.
func Read(r io.Reader) (*Document, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxSize:
		return nil, fmt.Errorf("the file is larger than %d MiB: this is not a report", maxSize>>20)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New("the file is empty: this is not a report")
	}
	// Read the version first, because the fields of another version may have other types.
	var head struct {
		Version *int            `json:"version"`
		Verdict *ledger.Outcome `json:"verdict"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("the file is not a report in JSON: %s", excerpt.OneLine(err.Error()))
	}
	switch {
	case head.Version == nil || head.Verdict == nil:
		return nil, errors.New(`not a report: the field "version" or "verdict" is missing; make one with 'parking simulate --report FILE.json'`)
	case *head.Version != Version:
		return nil, fmt.Errorf("version %d of the report format is not supported: this program reads version %d", *head.Version, Version)
	}
	var d Document
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("the report is invalid: %s", excerpt.OneLine(err.Error()))
	}
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("the report is invalid: %w", err)
	}
	return &d, nil
}

// check returns an error if the document violates an assumption of the renderers.
func (d *Document) check() error {
	if d.Outcome != ledger.Pass && d.Outcome != ledger.Fail {
		return fmt.Errorf("verdict is %.20q, must be %s or %s", string(d.Outcome), ledger.Pass, ledger.Fail)
	}
	var end int64
	for i := range d.Timeline {
		row := &d.Timeline[i]
		switch {
		case row.Second < 0 || row.Second > maxYears*yearSeconds || row.Width < 0 || row.Width > maxYears*yearSeconds:
			return fmt.Errorf("timeline[%d] is out of range", i)
		case row.Second < end:
			return fmt.Errorf("timeline[%d] must begin after the end of the previous row", i)
		}
		end = row.Second + max(row.Width, 1)
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

// encode returns a value as JSON, followed by a newline.
func encode(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", indent)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return b.Bytes(), err
}

// mergedWidths returns widths of rows, in seconds. Bounded merges rows to one width after the other until the
// report is small enough.
func mergedWidths() []int64 {
	return []int64{2, 5, 10, 30, 60, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600}
}

// maxBoundedFaults is the maximum number of fault occurrences in a report that Bounded returns.
const maxBoundedFaults = 200

// Bounded returns the report as JSON of at most limit bytes. If the report is larger, Bounded keeps only the worst
// occurrences of faults. If it is still too large, Bounded merges the rows of the timeline into wider rows, and
// finally omits the timeline.
func (d *Document) Bounded(limit int) ([]byte, error) {
	text, err := d.JSON()
	bounded := *d
	if err == nil && len(text) > limit && len(d.Faults) > maxBoundedFaults {
		bounded.Faults = fault.Worst(d.Faults, maxBoundedFaults)
		bounded.FaultsOmitted += len(d.Faults) - maxBoundedFaults
		text, err = bounded.JSON()
	}
	for _, width := range mergedWidths() {
		if err != nil || len(text) <= limit {
			return text, err
		}
		bounded.Timeline = timeline.Merge(width, d.Timeline...)
		text, err = bounded.JSON()
	}
	if err == nil && len(text) > limit {
		bounded.Timeline = nil
		text, err = bounded.JSON()
	}
	if err == nil && len(text) > limit {
		return nil, fmt.Errorf("the report has %d bytes even without its timeline: at most %d are allowed", len(text), limit)
	}
	return text, err
}
