package flagvalue_test

import (
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/parking-operator/parking-operator/internal/flagvalue"
)

func TestDuration_FlagIsSet_ShowsTheTextOfTheUser(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args  []string
		text  string
		value time.Duration
	}{
		{nil, "1h", time.Hour},
		{[]string{"--for", "90s"}, "90s", 90 * time.Second},
		{[]string{"--for=-60s"}, "-60s", -time.Minute},
		{[]string{"--for", "0"}, "0", 0},
	} {
		d := flagvalue.NewDuration(time.Hour)
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.Var(&d, "for", "")
		if err := flags.Parse(tt.args); err != nil {
			t.Errorf("%v: %v", tt.args, err)
		}
		if text := d.String(); text != tt.text || d.Duration != tt.value {
			t.Errorf("%v: the duration is %v and is shown as %s, want %v and %s", tt.args, d.Duration, text, tt.value, tt.text)
		}
	}
}

func TestDuration_InvalidText_KeepsTheValue(t *testing.T) {
	t.Parallel()
	d := flagvalue.NewDuration(time.Hour)
	if err := d.Set("1d"); err == nil || d != flagvalue.NewDuration(time.Hour) {
		t.Errorf("Set fails with %v, and the duration is %v, want an error and 1h", err, d.Duration)
	}
}
