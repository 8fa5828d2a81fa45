package resources_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// checkObjects fails the test if the API server would reject one of the objects.
func checkObjects(t rapid.TB, objects []client.Object) {
	t.Helper()
	seen := map[string]bool{}
	for _, object := range objects {
		id := kind(t, object) + " " + object.GetName()
		if seen[id] {
			t.Errorf("there are two objects %s", id)
		}
		seen[id] = true
		if faults := validation.IsDNS1035Label(object.GetName()); len(faults) > 0 {
			t.Errorf("%s: the name is invalid: %v", id, faults)
		}
		checkLabels(t, id, object.GetLabels())
	}
	for name, template := range templates(t, objects) {
		checkLabels(t, name, template.Labels)
		checkVolumes(t, name, template.Spec)
		for _, key := range []string{resources.SimulationLabel, resources.ComponentLabel} {
			if template.Labels[key] == "" {
				t.Errorf("%s: the pods have no label %s", name, key)
			}
		}
	}
}

func checkLabels(t rapid.TB, id string, labels map[string]string) {
	t.Helper()
	for key, value := range labels {
		if faults := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(faults) > 0 {
			t.Errorf("%s: label %s=%s is invalid: %v", id, key, value, faults)
		}
	}
}

// checkVolumes checks that every mounted volume exists. A StatefulSet gets the volume "data" from its claim
// template.
func checkVolumes(t rapid.TB, id string, spec corev1.PodSpec) {
	t.Helper()
	volumes := map[string]bool{"data": true}
	for _, volume := range spec.Volumes {
		volumes[volume.Name] = true
	}
	for _, container := range append(spec.InitContainers, spec.Containers...) {
		for _, mount := range container.VolumeMounts {
			if !volumes[mount.Name] {
				t.Errorf("%s: container %s mounts %s, which does not exist", id, container.Name, mount.Name)
			}
		}
	}
}

func FuzzBuild_ArbitrarySpec_ReturnsErrorOrValidObjects(f *testing.F) {
	for _, spec := range []string{
		`{}`,
		`{"entry":{"rate":1,"stages":[{"duration":"5m","rate":2}]},"processor":{"replicas":0}}`,
		`{"rabbitmq":{"managed":{"replicas":5,"image":"x","resources":{"limits":{"memory":"1"}}}},"redis":{"managed":{"storage":{"size":"0"},"resources":{"limits":{"memory":"9E"}}}}}`,
		`{"rabbitmq":{"clusterRef":{"name":"a"}},"redis":{"secretRef":{"name":"b"}},"summaryAPI":{"url":"https://c","secretRef":{"name":"d"}}}`,
		`{"summaryAPI":{"managed":{"replicas":16,"database":{"secretRef":{"name":"a"}},"template":{"spec":{"containers":[{"name":"parking","env":[{"name":"A","value":"b"}]}]}}}}}`,
		`{"processor":{"template":{"metadata":{"labels":{"a/b":"c"}},"spec":{"containers":[{"name":"parking","volumeMounts":[{"name":"plan","mountPath":"/x"}]}],"tolerations":[{"operator":"Exists"}]}}}}`,
		`{"exit":{"template":{"spec":{"containers":null,"volumes":[],"$setElementOrder/containers":[{"name":"x"}]}}}}`,
		`{"entry":{"template":{"spec":{"$patch":"replace"}}}}`,
		`{"entry":{"template":{"spec":null}}}`,
		`{"exit":{"template":{"spec":{"containers":[{"name":"parking","$patch":"delete"}]}}}}`,
		`{"monitoring":{"labels":{"release":"x","simulation.parking.dev/simulation":"y"},"interval":"1.5s"},"objectives":{"processingP99":"1ns","endToEndP99":"8760h"}}`,
	} {
		f.Add("sim", []byte(spec), true)
		f.Add(strings.Repeat("n", 40), []byte(spec), false) // the maximum length of a simulation's name
	}
	f.Fuzz(func(t *testing.T, name string, spec []byte, served bool) {
		sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: "lot", Name: name}}
		if json.Unmarshal(spec, &sim.Spec) != nil {
			return
		}
		in := input(t, "base", "")
		in.Simulation = sim
		in.Served = resources.Served{ServiceMonitors: served, PrometheusRules: served}
		objects, err := in.build()
		if err != nil {
			if strings.Contains(err.Error(), brokerPassword) {
				t.Errorf("the error contains a password: %v", err)
			}
			return
		}
		checkObjects(t, objects)
	})
}

func TestBuild_ValidSpec_ReturnsValidObjects(t *testing.T) {
	t.Parallel()
	base := input(t, "base", "")
	rapid.Check(t, func(r *rapid.T) {
		sim := &v1alpha1.ParkingSimulation{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?`).Draw(r, "namespace"),
				Name:      rapid.StringMatching(`[a-z]([-a-z0-9]{0,38}[a-z0-9])?`).Draw(r, "name"),
			},
			Spec: drawSpec(r),
		}
		in := base
		in.Simulation = sim
		in.Complete = rapid.Bool().Draw(r, "complete")
		in.Served = resources.Served{ServiceMonitors: rapid.Bool().Draw(r, "monitors"), PrometheusRules: rapid.Bool().Draw(r, "rules")}
		if rapid.Bool().Draw(r, "not started") {
			in.StartTime = nil
		}
		objects, err := in.build()
		if err != nil {
			r.Fatal(err)
		}
		checkObjects(r, objects)
	})
}

// maybe decides at random whether a value is set. It returns either nil or a pointer to a value from the function
// draw.
func maybe[T any](r *rapid.T, label string, draw func() T) *T {
	if !rapid.Bool().Draw(r, label+" is set") {
		return nil
	}
	value := draw()
	return &value
}

func number[T int32 | int64](r *rapid.T, label string, low, high T) *T {
	return maybe(r, label, func() T { return T(rapid.Int64Range(int64(low), int64(high)).Draw(r, label)) })
}

// drawSpec returns a randomly drawn valid spec.
func drawSpec(r *rapid.T) v1alpha1.ParkingSimulationSpec {
	duration := func(label string, low, high time.Duration) *v1alpha1.Duration {
		return maybe(r, label, func() v1alpha1.Duration {
			return *v1alpha1.NewDuration(time.Duration(rapid.Int64Range(int64(low), int64(high)).Draw(r, label)))
		})
	}
	spec := v1alpha1.ParkingSimulationSpec{
		Suspend:  rapid.Bool().Draw(r, "suspend"),
		Duration: duration("duration", 1, 8760*time.Hour),
		Seed:     number[int64](r, "seed", 0, 1<<62),
		Entry:    v1alpha1.EntrySpec{Rate: number[int32](r, "entry.rate", 0, 20_000), GeneratorSpec: drawGenerator(r)},
		Exit: v1alpha1.ExitSpec{
			Rate: number[int32](r, "exit.rate", 0, plan.MaxRate), MatchPercent: number[int32](r, "matchPercent", 0, 100),
			MinStay: duration("minStay", 0, time.Minute), GeneratorSpec: drawGenerator(r),
		},
		Plates: v1alpha1.PlatesSpec{MaxStay: duration("maxStay", 2*time.Minute, time.Hour)},
		Processor: v1alpha1.ProcessorSpec{
			Replicas: number[int32](r, "processors", 0, 1000), Concurrency: number[int32](r, "concurrency", 1, plan.MaxConcurrency),
			Resources: drawResources(r), Template: drawTemplate(r),
		},
		Monitoring: v1alpha1.MonitoringSpec{Interval: duration("interval", time.Second, time.Hour), Labels: drawLabels(r)},
		Objectives: v1alpha1.ObjectivesSpec{
			PhaseObjectivesSpec: v1alpha1.PhaseObjectivesSpec{
				ProcessingP99: duration("processingP99", 1, time.Hour), EndToEndP99: duration("endToEndP99", 1, time.Hour),
			},
			UnderFaults: v1alpha1.PhaseObjectivesSpec{MaxLag: duration("maxLag", 1, time.Hour)},
			MaxRecovery: duration("maxRecovery", 1, time.Hour),
		},
	}
	drawServers(r, &spec)
	spec.Monitoring.TLS = drawTLS(r)
	return spec
}

func drawServers(r *rapid.T, spec *v1alpha1.ParkingSimulationSpec) {
	secret := &v1alpha1.SecretReference{Name: rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?`).Draw(r, "secret")}
	switch rapid.SampledFrom([]string{"none", "managed", "cluster", "secret"}).Draw(r, "rabbitmq") {
	case "managed":
		spec.RabbitMQ.Managed = &v1alpha1.ManagedRabbitMQ{
			Replicas: new(rapid.SampledFrom([]int32{1, 3, 5}).Draw(r, "nodes")), Storage: drawStorage(r), Resources: drawResources(r), TLS: drawTLS(r),
		}
	case "cluster":
		spec.RabbitMQ.ClusterRef = &v1alpha1.ClusterReference{Name: "rabbit"}
	case "secret":
		spec.RabbitMQ.SecretRef = secret
	}
	switch rapid.SampledFrom([]string{"none", "managed", "secret"}).Draw(r, "redis") {
	case "managed":
		spec.Redis.Managed = &v1alpha1.ManagedRedis{Storage: drawStorage(r), Resources: drawResources(r), TLS: drawTLS(r)}
	case "secret":
		spec.Redis.SecretRef = secret
	}
	switch rapid.SampledFrom([]string{"none", "managed", "database", "url", "url and secret"}).Draw(r, "summaryAPI") {
	case "managed":
		spec.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{Storage: drawStorage(r), Resources: drawResources(r), Template: drawTemplate(r), TLS: drawTLS(r)}
	case "database":
		spec.SummaryAPI.Managed = &v1alpha1.ManagedSummaryAPI{
			Replicas: number[int32](r, "summary APIs", 1, 16), Database: &v1alpha1.SummaryDatabase{SecretRef: *secret},
			Resources: drawResources(r), Template: drawTemplate(r), TLS: drawTLS(r),
		}
	case "url and secret":
		spec.SummaryAPI.SecretRef = secret
		fallthrough
	case "url":
		spec.SummaryAPI.URL = "https://visits.example.com/v1/visits"
	}
}

func drawGenerator(r *rapid.T) v1alpha1.GeneratorSpec {
	return v1alpha1.GeneratorSpec{
		Replicas: number[int32](r, "replicas", 0, plan.MaxGenerators), Resources: drawResources(r), Template: drawTemplate(r),
	}
}

func drawStorage(r *rapid.T) v1alpha1.StorageSpec {
	return v1alpha1.StorageSpec{Size: maybe(r, "size", func() v1alpha1.Quantity {
		return bytesOf(rapid.Int64Range(0, 1<<49).Draw(r, "size"))
	})}
}

func drawTLS(r *rapid.T) *v1alpha1.TLSSpec {
	return maybe(r, "TLS", func() v1alpha1.TLSSpec {
		return v1alpha1.TLSSpec{SecretName: rapid.SampledFrom([]string{"", "certificate"}).Draw(r, "secretName")}
	})
}

func drawResources(r *rapid.T) *v1alpha1.ResourceRequirements {
	return maybe(r, "resources", func() v1alpha1.ResourceRequirements {
		limit := rapid.Int64Range(0, 1<<49).Draw(r, "limit")
		return v1alpha1.ResourceRequirements{
			Limits:   v1alpha1.ResourceList{"memory": bytesOf(limit)},
			Requests: v1alpha1.ResourceList{"memory": bytesOf(rapid.Int64Range(0, limit).Draw(r, "request"))},
		}
	})
}

func bytesOf(n int64) v1alpha1.Quantity {
	return v1alpha1.Quantity(resource.NewQuantity(n, resource.BinarySI).String())
}

func drawLabels(r *rapid.T) map[string]v1alpha1.LabelValue {
	return rapid.MapOfN(
		rapid.SampledFrom([]string{"team", "app.kubernetes.io/part-of", resources.SimulationLabel, resources.ComponentLabel}),
		rapid.Map(rapid.StringMatching(`([A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?)?`), func(v string) v1alpha1.LabelValue { return v1alpha1.LabelValue(v) }),
		0, 4).Draw(r, "labels")
}

func drawTemplate(r *rapid.T) *v1alpha1.PodTemplate {
	return maybe(r, "template", func() v1alpha1.PodTemplate {
		return v1alpha1.PodTemplate{
			Metadata: v1alpha1.PodMetadata{Labels: drawLabels(r), Annotations: map[string]v1alpha1.AnnotationValue{"note": v1alpha1.AnnotationValue(rapid.String().Draw(r, "note"))}},
			Spec: &runtime.RawExtension{Raw: []byte(rapid.SampledFrom([]string{
				`null`, `{}`, `{"nodeSelector":{"disk":"ssd"}}`, `{"containers":[{"name":"parking","env":[{"name":"A","value":"b"}]}]}`,
				`{"containers":[{"name":"other","image":"other:v1"}],"volumes":[{"name":"v","emptyDir":{}}]}`,
				`{"securityContext":{"runAsUser":1000},"tolerations":[{"operator":"Exists"}],"topologySpreadConstraints":[]}`,
			}).Draw(r, "patch"))},
		}
	})
}
