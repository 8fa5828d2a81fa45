package crd_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/parking-operator/parking-operator/internal/document"
	"github.com/parking-operator/parking-operator/internal/excerpt"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/manifest/manifesttest"
)

// values returns YAML values for each field of the spec, by path: values at and around the field's bounds, and
// frequent mistakes.
func values() map[string][]string {
	durations := []string{
		"0s", "1ns", "1ms", "1.5s", "999ms", "1s", "1h0m0s", "1h", "1h0.000000001s", "10000s", "8760h", "8761h", "-1s", "1d", "5", "''", "1µs", "1μs",
		"1.5h", "2592000s", ".5s", "500μs", "+5m", "'0'", "0", "-0s", "1h 30m", "90", "1H", "99999h99999h", "99999999999h", "1.s", "0.1ns", "0.0001us",
		"61m", "8760h0.000000001s", "null", "[]", "true",
	}
	quantities := []string{
		"0", "'0'", "2Gi", "2", "2.5", "2.5Gi", "2m", "512m", "-1", "+1", "1e3", "1e1.5", "'1e2147483640'", "'1e10000000'", "1E", "1Ei", "2GB", "2gi", "''",
		"x", "null", "'2 Gi'", "9999999999999999", "1e30", "2.0", "1.0e2", "true", "{}", "[]", "1n", "-0", "-0.0",
	}
	labels := []string{
		"{}", "{a: b}", "{a/b: c}", "{a: ''}", "{'': a}", "{a: '-'}", "{a b: c}", "{A: B}", "{Example.com/a: b}", "{a: null}", "{a: 1}", "{a: 'b c'}", "{a: " + strings.Repeat("x", 64) + "}",
	}
	resources := []string{"{}", "null", "{claims: []}", "{limits: null}", "{limits: {}, requests: {cpu: 500m}}", "{requests: {cpu: 2}, limits: {cpu: 1}}", "{requests: {cpu: 1000m}, limits: {cpu: 1}}", "{limits: {CPU: 1}}", "{limits: {gpu: 1}}", "{limits: {example.com/gpu: 1}}", "{limits: {example.com/gpu: 500m}}", "{limits: {hugepages-2Mi: 4Mi}}", "{limits: {hugepages-2Mi: 4Mi, cpu: 1}}", "{limits: {hugepages-2Mi: 3Mi, memory: 1Gi}}", "{limits: {hugepages-2Mi: 9e30, memory: 1Gi}}", "{requests: {hugepages-2Mi: 4Mi, cpu: 1}}", "{limits: {hugepages-: 1, cpu: 1}}", "{limits: {'hugepages-a b': 1, cpu: 1}}", "{limits: {hugepages-0Mi: 1, cpu: 1}}", "{requests: {example.com/gpu: 1}}", "{requests: {example.com/gpu: 1}, limits: {example.com/gpu: 2}}", "{requests: {example.com/gpu: 2}, limits: {example.com/gpu: 2000m}}", "{requests: {example.com/gpu: 2}, limits: {example.com/gpu: 2}}", "{requests: {kubernetes.io/foo: 1}}", "{limits: {requests.example.com/gpu: 1}}", "{limits: {" + strings.Repeat("a", 250) + "/b: 1}}", "{limits: {memory: null}}", "{limits: {cpu: 1n}}"}
	for _, q := range quantities {
		resources = append(resources, "{limits: {memory: "+q+"}}", "{requests: {cpu: "+q+"}}")
	}
	images := []string{
		"''", "x", "redis:7", "library/Redis:7", "'redis:'", "redis latest", "'https://docker.io/redis:7'", "'redis:7@sha256:abc'", "'redis:${TAG}'", "' redis:7'", "null", "7",
		"localhost:5000/a/b:v1", "'redis@sha256:" + strings.Repeat("0a", 32) + "'", "'user:hunter2@docker.io/redis'", "docker.io//redis", "a__b", "a..b", "REGISTRY/redis", "host:0/a", "host:65535/a", "host:65536/a", "host:080/a", "my_registry:5000/x", "host:99999/a", "a:8:9", "x" + strings.Repeat("é", 300), strings.Repeat("x", 512), strings.Repeat("x", 513),
		strings.Repeat("0a", 32), strings.Repeat("0a", 32) + ":v1", strings.Repeat("a", 247), strings.Repeat("a", 248), "docker.io/" + strings.Repeat("a", 248), "localhost/" + strings.Repeat("a", 255), "host:5000/" + strings.Repeat("a", 256), strings.Repeat("a/", 127) + "a:v1", strings.Repeat("a/", 127) + "bc:v1",
	}
	templates := []string{
		"{}", "null", "{spec: null}", "{spec: {}}", "{spec: {nodeSelector: {disk: ssd}}}", "{spec: {nodeSelector: {disk: null}}}", "{metadata: {labels: {}}}", "{metadata: {annotations: {a: 1}}}",
		"{spec: []}", "{spec: {hostNetwork: 1}}", "{spec: {nodeSelecter: {}}}", "{spec: {restartPolicy: Never}}", "{spec: {containers: [{image: a}]}}", "{spec: {containers: [{name: a}]}}", "{spec: {containers: [{name: parking, env: [{name: A, value: hunter2}]}]}}", "{spec: {containers: [{name: parking, resources: {limits: {CPU: 1}}}]}}", "{spec: {volumes: [{emptyDir: {}}]}}",
	}
	storages := []string{"{}", "{storage: {storageClassName: A}}", "{storage: {storageClassName: a..b}}", "{storage: {storageClassName: ''}}", "{storage: null}", "{storage: 2Gi}", "null", "{resources: {limits: {cpu: 1}}}"}
	for _, q := range quantities {
		storages = append(storages, "{storage: {size: "+q+"}}")
	}
	names := []string{"{}", "null", "{name: a}", "{name: a.b}", "{name: a..b}", "{name: A}", "{name: a/b}", "{name: ''}", "{name: null}", "{name: 5}", "a", "{name: 'redis://u:hunter2@h'}", "{name: " + strings.Repeat("a", 254) + "}"}
	tls := []string{"{}", "null", "true", "[]", "{secretName: a}", "{secretName: a.b}", "{secretName: A}", "{secretName: ''}", "{secretName: null}", "{secretName: 5}", "{secretName: a, unknown: 1}", "{secretName: " + strings.Repeat("a", 254) + "}"}
	numbers := []string{"0", "1", "64", "65", "100", "101", "1000", "1001", "65535", "65536", "8788", "8789", "1000000", "1000001", "-1", "1.0", "1.5", "1e2", "'1'", "x", "null", "9223372036854775807", "9223372036854775808", "1e30", "true", "0x10", "0200", "08", "1_000", "-0", "-0.0"}
	return map[string][]string{
		"duration":                              durations,
		"seed":                                  numbers,
		"suspend":                               {"true", "false", "1", "null", "'true'", "yes"},
		"entry.rate":                            numbers,
		"entry.replicas":                        numbers,
		"entry.arrivals":                        {"Uniform", "Poisson", "uniform", "''", "null"},
		"entry.stages":                          {"[]", "null", "[null]", "[{duration: 1s, rate: 0}]", "[{duration: 0s, rate: 1}]", "[{rate: 1}]", "[{duration: 1s}]", "[{duration: 1h, rate: 1000000}]", "{}"},
		"entry.resources":                       resources,
		"entry.template":                        templates,
		"exit.rate":                             numbers,
		"exit.matchPercent":                     numbers,
		"exit.minStay":                          durations,
		"exit.maxStay":                          {"1h"},
		"plates.maxStay":                        durations,
		"processor.replicas":                    numbers,
		"processor.concurrency":                 numbers,
		"processor.resources":                   resources,
		"rabbitmq.partitions":                   numbers,
		"rabbitmq.queueType":                    {"Quorum", "Classic", "Stream", "''", "null"},
		"rabbitmq.managed":                      append([]string{"{replicas: 3}", "{replicas: 4}", "{replicas: null}"}, storages...),
		"rabbitmq.managed.image":                images,
		"rabbitmq.clusterRef":                   append([]string{"{name: a, namespace: b}", "{name: a, namespace: b.c}", "{name: a, namespace: ''}"}, names...),
		"rabbitmq.secretRef":                    names,
		"rabbitmq.managed.tls":                  tls,
		"redis.durability":                      {"Written", "Synced", "synced", "Fsynced", "''", "null"},
		"redis.managed":                         storages,
		"redis.managed.tls":                     tls,
		"redis.managed.image":                   images,
		"redis.secretRef":                       names,
		"summaryAPI.managed":                    append([]string{"{replicas: 2}", "{replicas: 2, database: {secretRef: {name: a}}}", "{storage: {size: 2Gi}, database: {secretRef: {name: a}}}", "{storage: {size: 1Gi}, database: {secretRef: {name: a}}}"}, storages...),
		"summaryAPI.managed.tls":                tls,
		"summaryAPI.managed.replicas":           append([]string{"16", "17"}, numbers...),
		"summaryAPI.managed.database":           {"{}", "null", "[]", "{secretRef: null}", "{secretRef: {name: a}, unknown: 1}"},
		"summaryAPI.managed.storage":            {"{}", "null", "{size: 2Gi}", "{size: 1Gi}", "{storageClassName: ssd}"},
		"summaryAPI.managed.database.secretRef": names,
		"summaryAPI.url":                        {"'https://a.b/c?d=e'", "'HTTP://a.b'", "'https://a@b'", "'https://a/b@c'", "'//a'", "'https://'", "ftp://a", "a b", "'https://a b'", "'http://[::1]:80'", "'https://a/%zz'", "''", "null", "'http://:8080/v1'", "'http://a:99999'", "'http://a:0'", "'http://a:65535'", "'http://a#b'", "'http://a '", "'http://<host>'", "'https:/user:hunter2@h/v1'", "'http:user:hunter2@h'", "'https:\\\\user:hunter2@h'", "'http://a..b'", "'http://a_b.c.'", "'http://[::zz]'", "'http://a/{b}'", "'http://a/ü'", "'http://256.1.1.1'", "'http://255.1.1.1:80/a'", "'http://1.2.3'", "'http://1.2.3.4.'", "'http://0x7f000001'", "'http://127.1'", "'http://a.1'", "'http://1.a'", "'http://01.1.1.1'", "'http://0.0.0.0?a'", "'http://a/1.2'", "'http://fe80::1'", "'http://[::1]x'", "'http://[1]'", "'http://[1.2.3.4]'", "'http://[::1.2.3.4]'", "'http://" + strings.Repeat("a", 63) + ".b'", "'http://" + strings.Repeat("a", 64) + ".b'", "'http://" + strings.Repeat("a.", 126) + "b:80'", "'http://" + strings.Repeat("a.", 126) + "b.'", "'http://" + strings.Repeat("a.", 126) + "bc/d'"},
		"summaryAPI.secretRef":                  names,
		"monitoring.interval":                   durations,
		"monitoring.rules":                      {"Auto", "Disabled", "auto", "''", "null"},
		"monitoring.labels":                     labels,
		"monitoring.tls":                        tls,
		"drainTimeout":                          durations,
		"faults":                                faults(durations),
		"objectives.endToEndP99":                durations,
		"objectives.maxLag":                     durations,
		"objectives.maxRecovery":                durations,
		"objectives.minAchievedPercent":         numbers,
		"objectives.abortOnFailure":             {"true", "false", "1", "null", "'true'"},
		"objectives.withoutFaults":              {"{}", "null", "[]", "{maxLag: 0s}", "{minAchievedPercent: 99}", "{endToEndP99: 1s, processingP99: 1ms}", "{maxLost: 1}", "{maxLag: null}", "1s"},
		"objectives.underFaults.maxLag":         durations,
		"objectives.maxLost":                    numbers,
		"deletionPolicy":                        {"Delete", "Retain", "Keep", "''", "null"},
		"processor.template.metadata.labels":    labels,
		"exit.template.metadata.annotations":    append([]string{"{A/b: 'c d'}", "{a/B: c}", "{a: b, a: c}", "{a: " + strings.Repeat("x", 255<<10-1) + "}", "{a: " + strings.Repeat("x", 255<<10) + "}", "{a: b, c: " + strings.Repeat("ü", 255<<9-1) + "}"}, labels...),
		"exit.template.metadata.unknown":        {"1"},
		"summaryAPI.managed.storage.unknown":    {"1"},
		"velocity":                              {"1", "null"},
	}
}

// faults returns YAML lists of faults to test. Most lists contain one fault with one unusual field, such as a value at
// or around a bound.
func faults(durations []string) []string {
	const kill, pause = "name: a, target: Redis, action: Kill, at: 10s", "name: a, target: Processor, action: Pause, at: 10s, for: 5s"
	texts := []string{
		"name: a, target: Redis, action: Kill", "name: a, target: Redis, at: 1s", "name: a, action: Kill, at: 1s", "target: Redis, action: Kill, at: 1s",
		"name: A, target: Redis, action: Kill, at: 1s", "name: '', target: Redis, action: Kill, at: 1s", "name: 0-a, target: SummaryAPI, action: Evict, at: 0s",
		"name: " + strings.Repeat("a", 41) + ", target: Redis, action: Kill, at: 1s", "name: a, target: redis, action: Kill, at: 1s", "name: a, target: Redis, action: Crash, at: 1s",
		"name: a, target: RabbitMQ, action: Restart, at: 1s", "name: a, target: RabbitMQLeader, action: Isolate, at: 1s, for: 1s", "name: a, target: ExitGenerator, action: Pause, at: 1s",
		kill, kill + ", for: 5s", kill + ", for: null", pause, kill + ", unknown: 1",
		pause + ", every: 5s", pause + ", every: 5001ms", pause + ", every: 7s, jitter: 1s", pause + ", every: 7001ms, jitter: 1s", kill + ", every: 999ms", kill + ", every: 1s", kill + ", jitter: 10s", kill + ", jitter: 10001ms",
	}
	for _, pods := range []string{"1", "'1'", "0", "999", "1000", "1%", "100%", "101%", "'50 %'", "-1", "1.0", "1.5", "null", "''", "all", "true", "{}", "01"} {
		texts = append(texts, kill+", pods: "+pods)
	}
	for _, d := range durations {
		texts = append(texts, "name: a, target: Redis, action: Kill, at: "+d, pause+", every: "+d, kill+", jitter: "+d, "name: a, target: EntryGenerator, action: Isolate, at: 1s, for: "+d)
	}
	lists := []string{
		"[]", "null", "[null]", "{}", "[{" + kill + "}, {" + pause + "}]", "[{" + kill + "}, {name: b, target: Processor, action: Evict, at: 1h}]",
		"[" + strings.Repeat("{"+kill+"}, ", 21) + "]",
	}
	for _, text := range texts {
		lists = append(lists, "[{"+text+"}]")
	}
	return lists
}

// drawn returns a random spec with at most four fields. The spec is in YAML flow style, without the outer braces.
func drawn(random *rand.Rand, fields map[string][]string, names []string) string {
	spec := make(tree)
	for range random.IntN(5) {
		name := names[random.IntN(len(names))]
		spec.set(strings.Split(name, "."), fields[name][random.IntN(len(fields[name]))])
	}
	return strings.TrimSuffix(strings.TrimPrefix(spec.String(), "{"), "}")
}

// metadata returns values of the field metadata for test manifests, as YAML.
func metadata() []string {
	long := strings.Repeat("a", 64)
	return []string{
		"null", "{}", "[]", "{name: null}", "{name: 5}", "{name: A}", "{name: a.b}", "{name: 'a '}", "{generateName: a-}", "{generateName: A-}", "{name: a, generateName: b-}", "{name: a, generateName: A-}", "{name: a, generateName: B_}",
		"{name: A, name: a}", "{name: a, resourceVersion: '0'}", "{name: a, resourceVersion: '7'}", "{name: a, resourceVersion: x}",
		"{name: a, namespace: B}", "{name: a, namespace: b}", "{name: a, namespace: ''}", "{name: a, unknown: 1}",
		"{name: a, labels: {a: 'b c'}}", "{name: a, labels: {A: b, a/b: c}}", "{name: a, labels: {A/b: c}}", "{name: a, labels: {a: 1}}", "{name: a, labels: {a: null}}", "{name: a, labels: {a: " + long + "}}",
		"{name: a, annotations: {A/b: 'c d'}}", "{name: a, annotations: {'a b': c}}", "{name: a, annotations: {a: true}}",
		"{name: a, annotations: {a: " + strings.Repeat("x", 256<<10-1) + "}}", "{name: a, annotations: {a: " + strings.Repeat("x", 256<<10) + "}}",
		"{name: a, finalizers: ['a b']}", "{name: a, finalizers: [a/b]}", "{name: a, ownerReferences: [{}]}", "{name: a, uid: x, generation: 3, creationTimestamp: null}",
	}
}

// statuses returns the YAML values that the test sets as the status of a manifest.
func statuses() []string {
	return []string{
		"null", "{}", "[]", "x", "{foo: 1}", "{replicas: 2, conditions: []}", "{replicas: x}", "{conditions: [{foo: 1}]}", "{conditions: [{type: Ready, status: 'True'}]}",
		"{startTime: x}", "{startTime: '2006-01-02T15:04:05Z'}", "{replicas: null}", "{ledger: {foo: 1}}",
	}
}

// inJSON converts a manifest from YAML to JSON and keeps the form of numbers, such as 1e2. It returns "" if JSON
// cannot represent a value.
func inJSON(text string) string {
	var document yamlv3.Node
	if yamlv3.Unmarshal([]byte(text), &document) != nil {
		return ""
	}
	return nodeInJSON(document.Content[0])
}

func nodeInJSON(node *yamlv3.Node) string {
	var parts []string
	for i, child := range node.Content {
		part := nodeInJSON(child)
		if node.Kind == yamlv3.MappingNode && i%2 == 0 {
			part = strconv.Quote(child.Value)
		}
		if part == "" {
			return ""
		}
		parts = append(parts, part)
	}
	switch node.Kind {
	case yamlv3.MappingNode:
		members := slices.Collect(slices.Chunk(parts, 2))
		texts := make([]string, len(members))
		for i, member := range members {
			texts[i] = strings.Join(member, ": ")
		}
		return "{" + strings.Join(texts, ", ") + "}"
	case yamlv3.SequenceNode:
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if node.ShortTag() != "!!str" {
		if !json.Valid([]byte(node.Value)) {
			return ""
		}
		return node.Value
	}
	quoted, _ := json.Marshal(node.Value) // json.Marshal never fails for a string
	return string(quoted)
}

// difference is a documented reason why only the API server or only the CLI accepts a manifest. The CLI is the parking
// command.
type difference struct {
	// doc is the text in the first column of the table in docs/manifests.md.
	doc string
	// Exactly one of these fields is true: it names the only program that accepts the manifest.
	onlyServer, onlyCLI bool
	// explains reports whether this difference causes the given error message of the CLI or the API server.
	explains func(message string) bool
}

func differences() []difference {
	return []difference{
		{"the fields within the spec of a template", true, false, func(message string) bool {
			for problem := range strings.SplitSeq(message, "; ") {
				if path, _, _ := strings.Cut(problem, ": "); !strings.Contains(path, ".template.spec") {
					return false
				}
			}
			return true
		}},
		{"numbers that are not written in decimal, or begin with 0", true, false, func(message string) bool { return strings.Contains(message, "must be a decimal number") }},
		{"`metadata.generateName` without a name", true, false, func(message string) bool { return strings.Contains(message, "generateName needs an API server") }},
		{"`metadata.finalizers` and `metadata.ownerReferences`", false, true, func(message string) bool {
			return strings.HasPrefix(message, "metadata.finalizers") || strings.HasPrefix(message, "metadata.ownerReferences")
		}},
		{"the types of values in `status`", true, false, func(message string) bool { return strings.HasPrefix(message, "status") }},
		{"a duplicate key in an object", true, false, func(message string) bool {
			return strings.Contains(message, "already set in") || strings.Contains(message, "duplicate field")
		}},
		{"`metadata.resourceVersion`", false, true, func(message string) bool { return strings.HasPrefix(message, "resourceVersion should not be set") }},
		{"files of more than 1 MiB", true, false, func(message string) bool { return strings.Contains(message, "is larger than 1 MiB") }},
	}
}

// The API server and the CLI must accept the same manifests, except for the differences in docs/manifests.md. The plan
// of each accepted manifest must be valid.
func TestCRDCreate_RandomManifest_IsAcceptedIfAndOnlyIfParkingCLIAcceptsIt(t *testing.T) {
	t.Parallel()
	// moreGarbage is the value of GOGC. With the default value 100, garbage collection takes a third of the test time.
	const moreGarbage = 800
	defer debug.SetGCPercent(debug.SetGCPercent(moreGarbage))
	const specs = 20_000
	a := load(t)
	fields, metadata, statuses := values(), metadata(), statuses()
	names := slices.Sorted(maps.Keys(fields))
	// The number of workers is constant, so that every machine draws the same specs.
	const workers = 8
	seen := make([]atomic.Int64, len(differences()))
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range specs / workers {
				text := manifesttest.Faulty{Spec: drawn(random, fields, names)}.Manifest()
				if random.IntN(20) == 0 {
					text = strings.Replace(text, "{name: rush-hour}", metadata[random.IntN(len(metadata))], 1)
				}
				if random.IntN(20) == 0 {
					text += "status: " + statuses[random.IntN(len(statuses))] + "\n"
				}
				if random.IntN(4) == 0 {
					text = cmp.Or(inJSON(text), text)
				}
				if random.IntN(500) == 0 {
					text += strings.Repeat("\n", document.MaxBytes)
				}
				shown := excerpt.Of(strings.TrimSpace(text), 2000)
				object, err := parseManifest(text)
				if err != nil {
					t.Errorf("%s: %v", shown, err)
					continue
				}
				admitted := a.Create(t.Context(), object)
				sim, read := manifest.Read(strings.NewReader(text))
				if i := explanation(admitted, read); i >= 0 {
					seen[i].Add(1)
				} else if (admitted == nil) != (read == nil) {
					t.Errorf("%s\nerror of the API server: %v\nerror of the CLI: %v", shown, admitted, read)
				}
				if read == nil {
					if resolved, errs := manifest.Resolve(sim); len(errs) > 0 {
						t.Errorf("%s\nis invalid when it is resolved again: %v", shown, errs)
					} else if err := resolved.Plan.Validate(); err != nil {
						t.Errorf("%s\nhas an invalid plan: %v", shown, err)
					}
				}
				for _, err := range []error{admitted, read} {
					if err != nil && strings.Contains(err.Error(), "hunter2") {
						t.Errorf("%s\ncauses an error that shows a password: %v", shown, err)
					}
				}
			}
		})
	}
	group.Wait()
	for i, difference := range differences() {
		if seen[i].Load() == 0 {
			t.Errorf("no manifest shows the difference: %s", difference.doc)
		}
	}
}

// The API server must report only one error for a value that breaks several rules.
func TestCRDCreate_InvalidQuantity_ReportsOneError(t *testing.T) {
	t.Parallel()
	a := load(t)
	fields := values()
	for _, name := range []string{"entry.resources", "processor.resources", "rabbitmq.managed", "redis.managed", "summaryAPI.managed.storage"} {
		for _, value := range fields[name] {
			if !strings.Contains(value, "size:") && !strings.Contains(value, "limits:") && !strings.Contains(value, "requests:") {
				continue
			}
			spec := make(tree)
			spec.set(strings.Split(name, "."), value)
			text := strings.TrimSuffix(strings.TrimPrefix(spec.String(), "{"), "}")
			err := a.Create(t.Context(), parse(t, manifesttest.Faulty{Spec: text}.Manifest()))
			if all, isList := err.(interface{ Unwrap() []error }); isList && len(all.Unwrap()) > 1 {
				t.Errorf("%s has several messages:\n%v", text, err)
			}
		}
	}
}

// explanation returns the index in differences() of the reason why only the API server or only the CLI rejects the
// manifest. It returns -1 if there is no such reason.
func explanation(admitted, read error) int {
	return slices.IndexFunc(differences(), func(d difference) bool {
		return (admitted == nil) == d.onlyServer && (read == nil) == d.onlyCLI && d.explains(errors.Join(admitted, read).Error())
	})
}

func TestDifferences_BetweenCLIAndAPIServer_AreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(root + "/docs/manifests.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| what | API server | command line |\n|---|---|---|\n")
	var documented []string
	for line := range strings.Lines(table) {
		row, isRow := strings.CutPrefix(line, "| ")
		if !isRow {
			break
		}
		documented = append(documented, row[:strings.Index(row, " |")])
	}
	var want []string
	for _, difference := range differences() {
		want = append(want, difference.doc)
	}
	if diff := gocmp.Diff(want, documented); diff != "" {
		t.Errorf("docs/manifests.md lists other differences (-want +documented):\n%s", diff)
	}
}

// tree is a YAML mapping. Its values are YAML texts or nested trees.
type tree map[string]any

// set sets the value at a path. It does nothing if the path already has a value, or if a parent of the path is not a
// mapping.
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

// String returns the mapping in YAML flow style.
func (m tree) String() string {
	members := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		members = append(members, fmt.Sprintf("%s: %s", name, m[name]))
	}
	return "{" + strings.Join(members, ", ") + "}"
}
