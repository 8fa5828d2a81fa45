package v1alpha1_test

import (
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

func TestNewDuration_TrailingUnitsAreZero_AreOmitted(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]v1alpha1.Duration{
		0: "0s", time.Nanosecond: "1ns", 10 * time.Second: "10s", 61 * time.Minute: "1h1m", 2 * time.Hour: "2h", 10 * time.Hour: "10h",
		time.Hour + time.Second: "1h0m1s", 20 * time.Minute: "20m", 90 * time.Second: "1m30s", 1500 * time.Millisecond: "1.5s",
	} {
		got := v1alpha1.NewDuration(d)
		if *got != want || got.Value() != d {
			t.Errorf("%v is written as %s, want %s", d, *got, want)
		}
	}
}
