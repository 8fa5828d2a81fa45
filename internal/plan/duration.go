package plan

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/field"
)

// Duration is a time.Duration. Its JSON form is a Go duration string, such as "1h30m".
type Duration time.Duration

// D converts d to a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String returns the duration for a message, such as "1h30m".
func (d Duration) String() string { return field.Duration(d.D()) }

// MarshalJSON returns the duration as a JSON string in the format of Go, such as "1h30m0s".
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.D().String()) }

// UnmarshalJSON parses a JSON string that contains a Go duration.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string such as \"30s\", not %s", b)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("read duration: %w", err)
	}
	*d = Duration(v)
	return nil
}
