package v1alpha1

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// Duration is a length of time from 0s to 8760h, written as a Go duration such as "90s", "1.5h" or "1h30m", without a
// sign. An integer has at most 9 digits (6 for m, 5 for h). A decimal number has at most 5 digits before the decimal
// point and at most 9 after it (6 for ms, 3 for us). The unit ns requires an integer.
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$') && duration(self) <= duration('8760h')",message="must be a duration from 0s to 8760h such as \"30s\" or \"1h30m\""
type Duration string

// DurationPattern matches a Duration, and is repeated in the validation rules of the CRD. Its limits on digits exclude
// overflows and fractions of a nanosecond.
const DurationPattern = `^([0-9]{1,5}h|[0-9]{1,6}m|[0-9]{1,9}[nuµμm]?s|[0-9]{0,5}[.]([0-9]{1,9}[hms]|[0-9]{1,6}ms|[0-9]{1,3}[uµμ]s))+$`

// maxDurationLength is the maximum length of a Duration in characters.
const maxDurationLength = 32

var durationSyntax = regexp.MustCompile(DurationPattern)

// NewDuration returns the text of d without trailing units that are zero: "1h1m" instead of "1h1m0s".
func NewDuration(d time.Duration) *Duration {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return new(Duration(text))
}

// Parse returns the value as a time.Duration. The error does not quote the text: the caller decides whether to quote
// it.
func (d Duration) Parse() (time.Duration, error) {
	if len([]rune(d)) > maxDurationLength || !durationSyntax.MatchString(string(d)) {
		return 0, errors.New(`must be a duration such as "30s" or "1h30m"`)
	}
	return time.ParseDuration(string(d))
}

// goSyntax is the regular expression for Go durations without a sign.
var goSyntax = regexp.MustCompile(`^(\d*[.]?\d*(h|m|s|ms|us|µs|μs|ns))+$`)

// Shorter returns a valid text for the same duration if d is invalid only because it has too many digits. Otherwise it
// returns "".
func (d Duration) Shorter() Duration {
	const maxParsed = 4 * maxDurationLength // limits the parsing time
	if len(d) > maxParsed {
		return ""
	}
	value, err := time.ParseDuration(string(d))
	if err != nil || value <= 0 || !goSyntax.MatchString(string(d)) {
		return ""
	}
	shorter := *NewDuration(value)
	if _, err := d.Parse(); err == nil || shorter.Value() != value {
		return ""
	}
	return shorter
}

// Value returns the value as a time.Duration, or 0 if d is nil or invalid.
func (d *Duration) Value() time.Duration {
	if d == nil {
		return 0
	}
	value, err := d.Parse()
	if err != nil {
		return 0
	}
	return value
}
