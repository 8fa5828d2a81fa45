package rehearsal

import (
	"slices"

	"github.com/parking-operator/parking-operator/internal/plan"
)

// sameFaults reports whether two plans have the same occurrences of faults, and both or none of them is suspended.
func sameFaults(a, b *plan.Plan) bool {
	return a.Suspended == b.Suspended && a.Seed == b.Seed && a.Duration == b.Duration && slices.Equal(a.Faults, b.Faults)
}
