package manifest_test

import (
	"encoding/json"
	"testing"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
)

// If the number of partitions is unknown, all queues and keys that may exist must be removed.
func TestIdentity_NumberOfPartitionsIsInvalid_HasTheMaximumNumberOfPartitions(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]int{
		`{"rabbitmq":{"partitions":3}}`:      3,
		`{"rabbitmq":{"partitions":"four"}}`: plan.MaxPartitions,
		`{"rabbitmq":{"partitions":-1}}`:     plan.MaxPartitions,
	} {
		var sim v1alpha1.ParkingSimulation
		if err := json.Unmarshal([]byte(`{"metadata":{"name":"a"},"spec":`+spec+`}`), &sim); err != nil {
			t.Fatal(err)
		}
		sim.Default()
		if got := manifest.Identity(&sim).Partitions; got != want {
			t.Errorf("%s: the identity has %d partitions, want %d", spec, got, want)
		}
	}
}
