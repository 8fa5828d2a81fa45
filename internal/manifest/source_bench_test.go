package manifest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/manifest"
)

// BenchmarkRead_ManyErrors shows that the time per error does not grow with the number of errors: "many/few" should be
// near 1.
func BenchmarkRead_ManyErrors(b *testing.B) {
	const few, many = 100, 10_000
	perError := func(errors int) float64 {
		var text strings.Builder
		text.WriteString("apiVersion: simulation.parking.dev/v1alpha1\nkind: ParkingSimulation\nmetadata:\n  name: x\n  labels:\n")
		for i := range errors {
			fmt.Fprintf(&text, "    k%d: a b\n", i)
		}
		began, rounds := time.Now(), b.N*many/errors
		for range rounds {
			if _, err := manifest.Read(strings.NewReader(text.String())); err == nil {
				b.Fatal("invalid labels are accepted")
			}
		}
		return float64(time.Since(began)) / float64(rounds*errors)
	}
	b.ReportMetric(perError(many)/perError(few), "many/few")
}
