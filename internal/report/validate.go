package report

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/field"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
)

const (
	// maxNumber limits durations in seconds and rates in events per second. A time.Duration cannot hold ten times this
	// number of seconds.
	maxNumber = 1e9
	// maxCount limits counts of events, so that the sum over all rows fits in an int64. A file of maxSize bytes has
	// fewer than a million rows.
	maxCount = 1e12
	// maxMemory limits memory sizes, in bytes.
	maxMemory = 1 << 50
	// maxNames limits the number of checks, and the number of different faults.
	maxNames = 1000
)

// All times in a report must be between earliest() and latest().
func earliest() time.Time { return time.Unix(0, 0).UTC() }
func latest() time.Time   { return time.Date(2200, time.January, 1, 0, 0, 0, 0, time.UTC) }

// validate returns an error if the document contradicts itself, or if it contains a value that no run can have. The
// error names the field.
func (d *Document) validate() error {
	if d.Outcome != ledger.Pass && d.Outcome != ledger.Fail {
		return field.NotSupported("verdict", string(d.Outcome), []string{string(ledger.Pass), string(ledger.Fail)})
	}
	for _, validate := range []func() error{d.validateRanges, d.validateChecks, d.validateRun, d.validateLedger, d.validateFaults, d.validateTimeline} {
		if err := validate(); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) validateRanges() error {
	shown := *d
	shown.Timeline = nil // skip the timeline, which validateTimeline checks
	return validateRange("", reflect.ValueOf(shown))
}

// validateChecks returns an error if a check is invalid, or if the verdict does not follow from the checks.
func (d *Document) validateChecks() error {
	if len(d.Checks) > maxNames {
		return field.TooMany("checks", len(d.Checks), maxNames)
	}
	allPassed, names := true, map[string]bool{}
	for i, c := range d.Checks {
		path := field.Path("checks").Index(i)
		outcomes := []string{string(ledger.Passed), string(ledger.Failed), string(ledger.NotMeasured)}
		switch {
		case c.Name == "":
			return field.Required(path.Child("name"), "each check must have a name")
		case !slices.Contains(outcomes, string(c.Outcome)):
			return field.NotSupported(path.Child("outcome"), string(c.Outcome), outcomes)
		case names[c.Name]:
			return field.Invalid(path.Child("name"), c.Name, "another check has this name")
		}
		names[c.Name] = true
		allPassed = allPassed && c.Outcome == ledger.Passed
	}
	isPass := d.Outcome == ledger.Pass
	switch {
	case isPass && len(d.Checks) == 0:
		return contradiction("verdict", d.Outcome, "there are no checks that prove the verdict")
	case isPass && !allPassed:
		return contradiction("verdict", d.Outcome, "a check did not pass")
	case !isPass && len(d.Checks) > 0 && allPassed:
		return contradiction("verdict", d.Outcome, "all checks passed")
	}
	return nil
}

// contradiction returns the error for a value that contradicts other values of the document.
func contradiction(path field.Path, value any, why string) error {
	return field.Invalid(path, field.Raw(fmt.Sprint(value)), "the report contradicts itself: "+why)
}

func (d *Document) validateRun() error {
	if !d.StartTime.IsZero() && !d.EndTime.IsZero() && d.EndTime.Before(d.StartTime) {
		return contradiction("endTime", d.EndTime.Format(time.RFC3339Nano), "endTime is before startTime")
	}
	for _, l := range []struct {
		path field.Path
		*Latency
	}{{"latencySeconds.processing", d.LatencySeconds.Processing}, {"latencySeconds.endToEnd", d.LatencySeconds.EndToEnd}} {
		if l.Latency != nil && l.P50 > l.P99 {
			return contradiction(l.path.Child("p50"), l.P50, "p50 is greater than p99")
		}
	}
	return nil
}

// validateLedger returns an error if the ledger contradicts itself or a check that passed.
func (d *Document) validateLedger() error {
	l := d.Ledger
	switch {
	case l == nil && d.Outcome == ledger.Pass:
		return contradiction("verdict", d.Outcome, "the verdict needs a ledger, but the report has none")
	case l == nil:
		return nil
	case int64(len(l.LostEvents)) > max(l.Lost, 0):
		return contradiction("ledger.lost", l.Lost, fmt.Sprintf("the length of lostEvents is %d", len(l.LostEvents)))
	case l.Indeterminate != l.IndeterminateEntries+l.IndeterminateMatched+l.IndeterminateUnmatched:
		return contradiction("ledger.indeterminate", l.Indeterminate, "this number is not the sum of indeterminateEntries, indeterminateMatched and indeterminateUnmatched")
	}
	o := plan.Objectives{MaxLost: d.Objectives.MaxLost, MaxUnexpected: d.Objectives.MaxUnexpected}
	for _, c := range ledger.Evaluate(ledger.Evidence{Report: *l, Objectives: o}).Checks {
		passed := slices.IndexFunc(d.Checks, func(r ledger.Check) bool { return r.Name == c.Name && r.Outcome == ledger.Passed })
		if c.Outcome == ledger.Failed && passed >= 0 {
			return contradiction(field.Path("checks").Index(passed).Child("outcome"), ledger.Passed, c.Message)
		}
	}
	return nil
}

func (d *Document) validateFaults() error {
	outcomes := make([]string, 0, len(fault.Outcomes()))
	for _, o := range fault.Outcomes() {
		outcomes = append(outcomes, string(o))
	}
	names := map[string]bool{}
	for i := range d.Faults {
		a, path := &d.Faults[i], field.Path("faults").Index(i)
		switch {
		case a.Fault == "":
			return field.Required(path.Child("fault"), "name the fault of this occurrence")
		case !slices.Contains(outcomes, string(a.Outcome)):
			return field.NotSupported(path.Child("outcome"), string(a.Outcome), outcomes)
		case a.Outcome == fault.OutcomeRecovered && a.RecoverySeconds == nil:
			return field.Required(path.Child("recoverySeconds"), "must be set, because the outcome is "+string(a.Outcome))
		}
		names[a.Fault] = true
	}
	counted := int64(0)
	for i := range d.FaultTotals {
		if d.FaultTotals[i].Fault == "" {
			return field.Required(field.Path("faultTotals").Index(i).Child("fault"), "name the fault of this total")
		}
		names[d.FaultTotals[i].Fault] = true
		counted += d.FaultTotals[i].Occurrences()
	}
	if len(names) > maxNames {
		return field.TooMany("faults", len(names), maxNames)
	}
	if all := int64(len(d.Faults)) + d.FaultsOmitted; len(d.FaultTotals) > 0 && counted != all {
		return field.Invalid("faultTotals", counted, fmt.Sprintf("must add up to %d, the number of occurrences in the fields faults and faultsOmitted", all))
	}
	return nil
}

func (d *Document) validateTimeline() error {
	end, last := int64(0), latest().Unix()
	for i := range d.Timeline {
		row, path := &d.Timeline[i], field.Path("timeline").Index(i)
		switch {
		case row.Second < 0 || row.Second > last:
			return field.Invalid(path.Child("t"), row.Second, fmt.Sprintf("must be a Unix time from 0 to %d", last))
		case row.Width < 0 || row.Width > maxNumber:
			return outOfRange(path.Child("w"), row.Width, maxNumber)
		case row.Second < end:
			return field.Invalid(path.Child("t"), row.Second, "must not be before the end of the previous row")
		}
		end = row.Second + max(row.Width, 1)
		content := *row
		content.Second, content.Width = 0, 0
		if err := validateRange(path, reflect.ValueOf(content)); err != nil {
			return err
		}
	}
	return nil
}

func outOfRange(path field.Path, value any, limit float64) error {
	return field.Invalid(path, value, fmt.Sprintf("must be from 0 to %g", limit))
}

// mayBeNegative reports whether a number with the given name may be negative. Only differences may be negative.
func mayBeNegative(name string) bool {
	return slices.Contains([]string{"missingEntries", "missingMatched", "missingUnmatched"}, name)
}

// validateRange checks all numbers and times within a value. It returns an error for the first number or time that is
// out of range.
func validateRange(path field.Path, v reflect.Value) error {
	if v.IsZero() {
		return nil
	}
	switch value := v.Interface().(type) {
	case time.Time:
		if value.Before(earliest()) || value.After(latest()) {
			return field.Invalid(path, field.Raw(value.Format(time.RFC3339Nano)), fmt.Sprintf("must be from %d to %d", earliest().Year(), latest().Year()))
		}
		return nil
	case time.Duration:
		if value < 0 || value.Seconds() > maxNumber {
			return outOfRange(path, int64(value), maxNumber*float64(time.Second))
		}
		return nil
	case plan.Duration:
		if value < 0 || value.D().Seconds() > maxNumber {
			return field.Invalid(path, value.String(), fmt.Sprintf("must be from 0s to %s", Seconds(maxNumber)))
		}
		return nil
	case histogram.Snapshot:
		return validateHistogram(path, value)
	default:
		return validateKind(path, v)
	}
}

// validateKind checks that the numbers in a value are within the range for their kind, such as float64.
func validateKind(path field.Path, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Float64:
		if f := v.Float(); !(f >= 0 && f <= maxNumber) {
			return outOfRange(path, f, maxNumber)
		}
		return nil
	case reflect.Int, reflect.Int64:
		return validateInteger(path, v.Int())
	case reflect.Pointer:
		return validateRange(path, v.Elem())
	default:
		return validateParts(path, v)
	}
}

// validateParts returns an error for the first number or time in a struct, a slice or a map that is out of range.
func validateParts(path field.Path, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			at := path
			if name != "" { // an embedded struct has no name: JSON puts its fields at the outer level
				at = path.Child(name)
			}
			if err := validateRange(at, v.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if err := validateRange(path.Index(i), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for entry := v.MapRange(); entry.Next(); {
			if err := validateRange(path.Key(entry.Key().String()), entry.Value()); err != nil {
				return err
			}
		}
	default: // other kinds, such as strings and booleans, contain no numbers
	}
	return nil
}

func validateInteger(path field.Path, n int64) error {
	name := string(path)[strings.LastIndex(string(path), ".")+1:]
	switch {
	case (name == "maxLost" || name == "maxUnexpected") && n >= 0: // no upper limit
	case name == "memoryBytes" && n >= 0 && n <= maxMemory:
	case name == "memoryBytes":
		return outOfRange(path, n, maxMemory)
	case mayBeNegative(name) && n >= -maxCount && n <= maxCount:
	case n < 0 || n > maxCount:
		return outOfRange(path, n, maxCount)
	}
	return nil
}

func validateHistogram(path field.Path, h histogram.Snapshot) error {
	for i, b := range h.Buckets() {
		if b.Count > maxCount {
			return outOfRange(path.Child("buckets").Index(i), b.Count, maxCount)
		}
	}
	if mean := h.Mean().Seconds(); mean < 0 || mean > maxNumber {
		return field.Invalid(path.Child("sumNs"), field.Raw(h.Mean().String()+" per event"), fmt.Sprintf("must be from 0s to %s per event", Seconds(maxNumber)))
	}
	return nil
}
