// Package flagvalue contains types of the values of command-line flags.
package flagvalue

import (
	"time"

	"github.com/parking-operator/parking-operator/internal/field"
)

// Duration is a flag value that keeps the user's text, such as 90s, for messages. The zero value is the value of a flag
// without a default.
type Duration struct {
	time.Duration

	text string
}

// NewDuration returns a flag value that is initially d.
func NewDuration(d time.Duration) Duration { return Duration{d, field.Duration(d)} }

// String returns the duration as the user wrote it. It implements pflag.Value.
func (d Duration) String() string { return d.text }

// Set implements pflag.Value.
func (d *Duration) Set(text string) error {
	value, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	*d = Duration{value, text}
	return nil
}

// Type implements pflag.Value. It returns the placeholder for the value in help texts.
func (*Duration) Type() string { return "duration" }
