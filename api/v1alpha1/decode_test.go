package v1alpha1_test

import (
	"encoding/json"
	"testing"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// The operator lists simulations of all namespaces. One that cannot be decoded would end every list and watch.
func TestParkingSimulation_DecodesInvalidValues(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"quantity with a fraction as exponent": `{"spec":{"entry":{"resources":{"limits":{"memory":"1e1.5"}}}}}`,
		"quantity with a huge exponent":        `{"spec":{"redis":{"managed":{"storage":{"size":"1e2147483640"}}}}}`,
		"quantity that is a number":            `{"spec":{"redis":{"managed":{"storage":{"size":1.5}}}}}`,
		"invalid duration":                     `{"spec":{"duration":"soon","plates":{"maxStay":"99999999999h"}}}`,
		"invalid template":                     `{"spec":{"entry":{"template":{"spec":{"containers":5}}}}}`,
		"time in lower case":                   `{"status":{"startTime":"2026-01-01t00:00:00z"}}`,
		"condition with an invalid time":       `{"status":{"conditions":[{"type":"Ready","lastTransitionTime":"yesterday"}]}}`,
		"number of replicas that overflows":    `{"status":{"replicas":3000000000}}`,
	} {
		if err := json.Unmarshal([]byte(text), new(v1alpha1.ParkingSimulation)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestQuantity_KeepsItsText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]v1alpha1.Quantity{
		`"2Gi"`: "2Gi", `"1024Mi"`: "1024Mi", `2`: "2", `1e3`: "1000", `2.0`: "2", `1.5`: "1.5", `"1e2147483640"`: "1e2147483640", `true`: "true",
	} {
		var got v1alpha1.Quantity
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is decoded as %q (%v), want %q", text, got, err, want)
		}
	}
}
