package v1alpha1_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

// emptyWithDefaults is the JSON text of an empty spec after defaulting.
const emptyWithDefaults = `{
	"drainTimeout": "5m", "seed": 1,
	"entry": {"rate": 200, "replicas": 1, "arrivals": "Uniform"},
	"exit": {"rate": 180, "matchPercent": 20, "minStay": "2s", "replicas": 1, "arrivals": "Uniform"},
	"plates": {"maxStay": "1h"},
	"processor": {"replicas": 2, "concurrency": 256},
	"rabbitmq": {"queueType": "Quorum", "partitions": 1},
	"redis": {"durability": "Written"},
	"monitoring": {"serviceMonitors": "Auto", "interval": "15s", "rules": "Auto", "dashboards": "Auto"},
	"objectives": {"maxLost": 0, "maxUnexpected": 0},
	"deletionPolicy": "Delete"
}`

func TestDefault_EmptySpec_SetsAllDefaults(t *testing.T) {
	t.Parallel()
	sim := &v1alpha1.ParkingSimulation{}
	sim.Default()
	checkSpec(t, sim, emptyWithDefaults)
	sim.Default()
	checkSpec(t, sim, emptyWithDefaults)
}

func TestDefault_SetFields_AreKept(t *testing.T) {
	t.Parallel()
	const all = `{
		"suspend": true, "duration": "30m0s", "drainTimeout": "1m", "seed": 0,
		"entry": {"rate": 0, "replicas": 0, "arrivals": "Poisson", "stages": [{"duration": "5m0s", "rate": 0}]},
		"exit": {"rate": 0, "matchPercent": 0, "minStay": "0s", "replicas": 0, "arrivals": "Poisson"},
		"plates": {"maxStay": "1m0s"},
		"processor": {"replicas": 0, "concurrency": 1},
		"rabbitmq": {"managed": {"image": "rabbitmq:4", "replicas": 3, "storage": {"size": "0"}}, "queueType": "Classic", "partitions": 64},
		"redis": {"secretRef": {"name": "redis"}, "durability": "Synced"},
		"summaryAPI": {"url": "https://example.com", "secretRef": {"name": "api"}},
		"monitoring": {"serviceMonitors": "Disabled", "interval": "1s", "labels": {"release": "prometheus"}, "rules": "Disabled", "dashboards": "Disabled"},
		"objectives": {
			"processingP99": "5ms", "endToEndP99": "1s", "maxLag": "5s", "minAchievedPercent": 99, "maxRecovery": "30s",
			"maxLost": 1, "maxUnexpected": 2, "abortOnFailure": true, "withoutFaults": {"maxLag": "1s"}, "underFaults": {"endToEndP99": "10s"}
		},
		"deletionPolicy": "Retain"
	}`
	sim := &v1alpha1.ParkingSimulation{}
	if err := json.Unmarshal([]byte(all), &sim.Spec); err != nil {
		t.Fatal(err)
	}
	sim.Default()
	checkSpec(t, sim, all)
}

func TestDefault_PartlySetManagedServers_AreCompleted(t *testing.T) {
	t.Parallel()
	sim := &v1alpha1.ParkingSimulation{}
	sim.Spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{}
	sim.Spec.Redis.Managed = &v1alpha1.ManagedRedis{}
	sim.Spec.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{}
	sim.Default()
	for name, storage := range map[string]v1alpha1.StorageSpec{
		"rabbitmq":   sim.Spec.RabbitMQ.Managed.Storage,
		"redis":      sim.Spec.Redis.Managed.Storage,
		"summaryAPI": sim.Spec.SummaryAPI.Managed.Storage,
	} {
		if want := v1alpha1.Quantity("2Gi"); storage.Size == nil || *storage.Size != want {
			t.Errorf("%s has storage %v, want %v", name, storage.Size, want)
		}
	}
	for name, replicas := range map[string]*int32{
		"rabbitmq": sim.Spec.RabbitMQ.Managed.Replicas, "summaryAPI": sim.Spec.SummaryAPI.Managed.Replicas,
	} {
		if replicas == nil || *replicas != 1 {
			t.Errorf("%s has %v replicas, want 1", name, replicas)
		}
	}
}

func TestManagedOrDefault_ExternalServer_IsNil(t *testing.T) {
	t.Parallel()
	spec := &v1alpha1.ParkingSimulationSpec{}
	if got := spec.RabbitMQ.ManagedOrDefault(); got == nil || *got.Replicas != 1 || *got.Storage.Size != "2Gi" {
		t.Errorf("an empty spec manages RabbitMQ %+v, want one node with 2Gi", got)
	}
	if got := spec.Redis.ManagedOrDefault(); got == nil || *got.Storage.Size != "2Gi" {
		t.Errorf("an empty spec manages Redis %+v, want one with 2Gi", got)
	}
	if got := spec.SummaryAPI.ManagedOrDefault(); got == nil || *got.Storage.Size != "2Gi" {
		t.Errorf("an empty spec manages the summary API %+v, want one with 2Gi", got)
	}
	if spec.RabbitMQ.Managed != nil || spec.Redis.Managed != nil || spec.SummaryAPI.Managed != nil {
		t.Error("asking changed the spec")
	}

	spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{Image: "rabbitmq:4"}
	if got := spec.RabbitMQ.ManagedOrDefault(); got.Image != "rabbitmq:4" || *got.Replicas != 1 {
		t.Errorf("managed RabbitMQ is %+v, want the given fields and defaults for the others", got)
	}

	for name, named := range map[string]v1alpha1.RabbitMQSpec{
		"a Secret":          {SecretRef: &v1alpha1.SecretReference{Name: "broker"}},
		"a RabbitmqCluster": {ClusterRef: &v1alpha1.ClusterReference{Name: "broker"}},
	} {
		if got := named.ManagedOrDefault(); got != nil {
			t.Errorf("with %s, the managed RabbitMQ is %+v, want nil", name, got)
		}
	}
	redis := v1alpha1.RedisSpec{SecretRef: &v1alpha1.SecretReference{Name: "redis"}}
	if got := redis.ManagedOrDefault(); got != nil {
		t.Errorf("with a Secret, the managed Redis is %+v, want nil", got)
	}
	api := v1alpha1.SummaryAPISpec{URL: "https://example.com"}
	if got := api.ManagedOrDefault(); got != nil {
		t.Errorf("with a URL, the managed summary API is %+v, want nil", got)
	}
}

func checkSpec(t *testing.T, sim *v1alpha1.ParkingSimulation, want string) {
	t.Helper()
	text, err := json.Marshal(sim.Spec)
	if err != nil {
		t.Fatal(err)
	}
	var got, wanted any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}
