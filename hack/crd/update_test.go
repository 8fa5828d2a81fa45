package crd_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/manifest/manifesttest"
)

func TestUpdates(t *testing.T) {
	t.Parallel()
	a := load(t)
	tests := map[string]struct{ before, after, want string }{
		"a rate may change":                      {"entry: {rate: 1}", "entry: {rate: 2}", ""},
		"a ratio may change":                     {"", "exit: {matchPercent: 100}", ""},
		"what was implied may be said":           {"", "rabbitmq: {managed: {}}, redis: {managed: {}}, summaryAPI: {managed: {}}", ""},
		"a Secret may be another":                {"redis: {secretRef: {name: a}}", "redis: {secretRef: {name: b}}", ""},
		"an API may be exchanged":                {"", "summaryAPI: {url: 'https://example.com'}", ""},
		"an image may change":                    {"redis: {managed: {image: a}}", "redis: {managed: {image: b}}", ""},
		"the same size said otherwise":           {"redis: {managed: {storage: {size: 2Gi}}}", "redis: {managed: {}}", ""},
		"a seed may not change":                  {"", "seed: 2", "is immutable, as parked plates could be drawn again: create another simulation for another seed"},
		"partitions may not change":              {"", "rabbitmq: {partitions: 2}", "is immutable, as parked cars would be looked for in another partition: create another simulation"},
		"partitions may not be forgotten":        {"rabbitmq: {partitions: 2}", "", "is immutable, as parked cars would be looked for in another partition: create another simulation"},
		"a queue type may not change":            {"", "rabbitmq: {queueType: Classic}", "is immutable, as RabbitMQ cannot change a queue's type: create another simulation"},
		"a broker may not go":                    {"", "rabbitmq: {secretRef: {name: a}}", "cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"},
		"a broker may not come":                  {"rabbitmq: {clusterRef: {name: a}}", "", "cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"},
		"a broker may not be another kind's":     {"rabbitmq: {clusterRef: {name: a}}", "rabbitmq: {secretRef: {name: a}}", "cannot change between managed, clusterRef and secretRef, as queued events would be left behind: create another simulation"},
		"a store may not go":                     {"", "redis: {secretRef: {name: a}}", "cannot change between managed and secretRef, as visits and ledger would be left behind: create another simulation"},
		"a store may not come":                   {"redis: {secretRef: {name: a}}", "redis: {managed: {}}", "cannot change between managed and secretRef, as visits and ledger would be left behind: create another simulation"},
		"the number of nodes may not change":     {"rabbitmq: {managed: {replicas: 1}}", "rabbitmq: {managed: {replicas: 3}}", "spec.rabbitmq.managed.replicas: Invalid value: is immutable, because queues keep the members that they were declared with: create another simulation"},
		"a volume may not change":                {"redis: {managed: {storage: {size: 1Gi}}}", "redis: {managed: {storage: {size: 2Gi}}}", "managed.storage: Invalid value: is immutable, because the volume exists: create another simulation"},
		"a volume's storage class may not come":  {"redis: {managed: {}}", "redis: {managed: {storage: {storageClassName: ssd}}}", "managed.storage: Invalid value: is immutable, because the volume exists: create another simulation"},
		"nodes may not come with their section":  {"", "rabbitmq: {managed: {replicas: 3}}", "spec.rabbitmq.managed.replicas: Invalid value: is immutable"},
		"nodes may not go with their section":    {"rabbitmq: {managed: {replicas: 3}}", "", "spec.rabbitmq.managed.replicas: Invalid value: is immutable"},
		"a volume may not come with its section": {"", "summaryAPI: {managed: {storage: {size: 1Gi}}}", "managed.storage: Invalid value: is immutable"},
		"a volume may not go with its section":   {"rabbitmq: {managed: {storage: {size: 1Gi}}}", "", "managed.storage: Invalid value: is immutable"},
		"the volume of another API is its own":   {"summaryAPI: {url: 'https://example.com'}", "summaryAPI: {managed: {storage: {size: 1Gi}}}", ""},
		"the same size in other units":           {"redis: {managed: {storage: {size: 1Gi}}}", "redis: {managed: {storage: {size: 1024Mi}}}", "spec.redis.managed.storage: Invalid value: is immutable"},
		"an update may not break a rule of both": {"exit: {minStay: 10s}", "exit: {minStay: 10s}, plates: {maxStay: 10s}", "exit.minStay must be less than plates.maxStay"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := parse(t, manifesttest.Faulty{Spec: tt.before}.Manifest())
			if err := a.Create(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			err := a.Update(t.Context(), parse(t, manifesttest.Faulty{Spec: tt.after}.Manifest()), before)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("is refused: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error is\n%v, want it to contain\n%s", err, tt.want)
			}
		})
	}
}

func TestNamesAreChecked(t *testing.T) {
	t.Parallel()
	a := load(t)
	for name, valid := range map[string]bool{
		"a": true, "rush-hour-2": true, strings.Repeat("a", 40): true,
		strings.Repeat("a", 41): false, "2nd": false, "rush.hour": false,
	} {
		text := strings.Replace(manifesttest.Head, "rush-hour", name, 1)
		if err := a.Create(t.Context(), parse(t, text)); (err == nil) != valid {
			t.Errorf("the name %s is admitted with %v, want valid: %t", name, err, valid)
		}
		if _, err := manifest.Read(strings.NewReader(text)); (err == nil) != valid {
			t.Errorf("the name %s is read with %v, want valid: %t", name, err, valid)
		}
	}
}

// anySpec draws the inside of a spec from values about each bound.
func anySpec() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		durations := []string{"0s", "1ns", "1ms", "1.5s", "999ms", "1s", "1h0m0s", "1h", "1h1ns", "10000s", "8760h", "8761h", "-1s", "1d", "5", "''", "1µs"}
		fields := map[string][]string{
			"duration":                             durations,
			"seed":                                 {"0", "-1", "9223372036854775807", "1.0", "x"},
			"suspend":                              {"true", "false", "1"},
			"entry.rate":                           {"0", "1", "8788", "8789", "1000000", "1000001", "-1", "1.5", "x"},
			"entry.replicas":                       {"0", "64", "65", "-1"},
			"entry.arrivals":                       {"Uniform", "Poisson", "uniform"},
			"entry.stages":                         {"[]", "[{duration: 1s, rate: 0}]", "[{duration: 0s, rate: 1}]", "[{rate: 1}]", "[{duration: 1s}]", "[{duration: 1h, rate: 1000000}]"},
			"exit.rate":                            {"0", "1000000", "1000001", "-1"},
			"exit.matchPercent":                    {"0", "100", "101", "-1"},
			"exit.minStay":                         durations,
			"plates.maxStay":                       durations,
			"processor.replicas":                   {"0", "1000", "1001", "-1"},
			"processor.concurrency":                {"0", "1", "65535", "65536"},
			"rabbitmq.partitions":                  {"0", "1", "64", "65"},
			"rabbitmq.queueType":                   {"Quorum", "Classic", "Stream"},
			"rabbitmq.managed":                     {"{}", "{replicas: 3}", "{replicas: 4}", "{storage: {size: 0}}", "{storage: {size: -1}}", "{storage: {size: x}}", "{storage: {storageClassName: A}}"},
			"rabbitmq.clusterRef":                  {"{}", "{name: a}", "{name: a.b}", "{name: A}", "{name: a, namespace: b}", "{name: a, namespace: b.c}"},
			"rabbitmq.secretRef":                   {"{}", "{name: a}", "{name: a/b}"},
			"redis.managed":                        {"{}", "{image: x}"},
			"redis.secretRef":                      {"{name: a}", "{name: ''}"},
			"summaryAPI.managed":                   {"{}"},
			"summaryAPI.url":                       {"'https://a.b/c?d=e'", "'HTTP://a.b'", "'https://a@b'", "'https://a/b@c'", "'//a'", "'https://'", "ftp://a", "a b", "'https://a b'", "'http://[::1]:80'", "'https://a/%zz'"},
			"summaryAPI.secretRef":                 {"{name: a}"},
			"monitoring.interval":                  durations,
			"monitoring.rules":                     {"Auto", "Disabled", "auto"},
			"monitoring.labels":                    {"{}", "{a: b}", "{a/b: c}", "{a: ''}", "{'': a}", "{a: '-'}", "{a b: c}"},
			"objectives.endToEndP99":               durations,
			"objectives.maxLost":                   {"0", "-1"},
			"deletionPolicy":                       {"Delete", "Retain", "Keep"},
			"processor.template.metadata.labels":   {"{a: b}", "{A: B}", "{a: 'b c'}"},
			"entry.template.metadata.annotations":  {"{A/b: 'c d'}", "{a/B: c}", "{'a b': c}"},
			"exit.template.metadata.unknown":       {"1"},
			"summaryAPI.managed.storage.unknown":   {"1"},
			"rabbitmq.managed.storage.accessModes": {"[]"},
		}
		names := rapid.SliceOfNDistinct(rapid.SampledFrom(sorted(fields)), 0, 4, rapid.ID).Draw(t, "fields")
		spec := make(tree)
		for _, name := range names {
			spec.set(strings.Split(name, "."), rapid.SampledFrom(fields[name]).Draw(t, name))
		}
		return strings.TrimSuffix(strings.TrimPrefix(spec.String(), "{"), "}")
	})
}

func TestAdmissionAndPlanAgree(t *testing.T) {
	t.Parallel()
	a := load(t)
	rapid.Check(t, func(t *rapid.T) {
		text := manifesttest.Faulty{Spec: anySpec().Draw(t, "spec")}.Manifest()
		object, err := parseManifest(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		admitted := a.Create(t.Context(), object)
		_, read := manifest.Read(strings.NewReader(text))
		if (admitted == nil) != (read == nil) {
			t.Fatalf("%s\nadmission: %v\nplan: %v", text, admitted, read)
		}
	})
}

// tree is a YAML mapping of texts and trees.
type tree map[string]any

// set sets the text at a path, unless something stands in the way.
func (m tree) set(path []string, text string) {
	if len(path) == 1 {
		if _, taken := m[path[0]]; !taken {
			m[path[0]] = text
		}
		return
	}
	if _, taken := m[path[0]]; !taken {
		m[path[0]] = make(tree)
	}
	if inner, ok := m[path[0]].(tree); ok {
		inner.set(path[1:], text)
	}
}

// String writes the mapping in YAML's flow style.
func (m tree) String() string {
	members := make([]string, 0, len(m))
	for _, name := range sorted(m) {
		members = append(members, fmt.Sprintf("%s: %s", name, m[name]))
	}
	return "{" + strings.Join(members, ", ") + "}"
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
