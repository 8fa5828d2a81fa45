package rabbitmq

import (
	"slices"
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
)

func TestExistingQueues_SeveralPartitionsWithoutQueues_EndTheSearch(t *testing.T) {
	t.Parallel()
	all := topology{exchange: "parking.a", partitions: plan.MaxPartitions, queueType: plan.QueueTypeQuorum}
	two := all
	two.partitions = 2
	var names []string
	for _, r := range two.allRoutes() {
		names = append(names, r.queue)
	}
	const lastOfGap = "parking.a.exit.4"
	for _, tt := range []struct {
		name    string
		present []string
		most    int
	}{
		{name: "no queues", most: 1 + 4*maxGap},
		{name: "queues of two partitions", present: names, most: 1 + 4*(2+maxGap)},
		{name: "queues of two partitions, and a queue after a gap", present: append(slices.Clone(names), lastOfGap), most: 1 + 4*(5+maxGap)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			requests := 0
			found, err := existingQueues(all, maxGap, func(name string) (bool, error) {
				requests++
				return slices.Contains(tt.present, name), nil
			})
			if err != nil || !slices.Equal(found, tt.present) {
				t.Errorf("found %v (%v), want %v", found, err, tt.present)
			}
			if requests > tt.most {
				t.Errorf("asked for %d queues, want at most %d", requests, tt.most)
			}
		})
	}
}
