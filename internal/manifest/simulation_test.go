package manifest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
)

func read(t *testing.T, text string) *v1alpha1.ParkingSimulation {
	t.Helper()
	sim, err := manifest.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

func planOf(t *testing.T, sim *v1alpha1.ParkingSimulation) *plan.Plan {
	t.Helper()
	resolved, faults := manifest.Resolve(sim)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	return resolved.Plan
}

func TestResolve_SetsDefaults(t *testing.T) {
	t.Parallel()
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Name: "rush-hour"}}
	before := sim.DeepCopy()
	want := &plan.Plan{
		Simulation:   "default.rush-hour",
		DrainTimeout: plan.Duration(5 * time.Minute),
		Seed:         1,
		Partitions:   1,
		QueueType:    plan.QueueTypeQuorum,
		Entry:        plan.Entry{Schedule: plan.Schedule{Rate: 200, Arrivals: plan.ArrivalsUniform, Replicas: 1}},
		Exit: plan.Exit{
			Schedule:     plan.Schedule{Rate: 180, Arrivals: plan.ArrivalsUniform, Replicas: 1},
			MatchPercent: 20,
			MinStay:      plan.Duration(2 * time.Second),
		},
		MaxStay:   plan.Duration(time.Hour),
		Processor: plan.Processor{Concurrency: 256},
	}
	if diff := cmp.Diff(want, planOf(t, sim)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, sim); diff != "" {
		t.Errorf("the simulation was changed (-before +after):\n%s", diff)
	}
}

func TestResolve_DerivesEveryFieldOfThePlan(t *testing.T) {
	t.Parallel()
	sim := read(t, `
apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: rush-hour, namespace: lot}
spec:
  suspend: true
  duration: 30m
  drainTimeout: 1m
  seed: 42
  entry: {rate: 200, replicas: 2, arrivals: Poisson, stages: [{duration: 5m, rate: 2000}, {duration: 1ms, rate: 0}]}
  exit: {rate: 0, replicas: 0, matchPercent: 0, minStay: 0s}
  plates: {maxStay: 10m}
  processor: {replicas: 3, concurrency: 16}
  rabbitmq: {secretRef: {name: broker}, queueType: Classic, partitions: 4}
  redis: {durability: Synced}
  summaryAPI: {url: "https://example.com/v1/visits"}
  faults:
  - {name: crash, target: Redis, action: Kill, at: 2m}
  - {name: stall, target: Processor, action: Pause, pods: 50%, at: 1m, every: 5m, jitter: 30s, for: 20s}
  objectives:
    processingP99: 5ms
    endToEndP99: 1s
    maxLag: 5s
    minAchievedPercent: 99
    withoutFaults: {maxLag: 1s}
    underFaults: {minAchievedPercent: 50}
    maxRecovery: 30s
    maxLost: 1
    maxUnexpected: 2
    abortOnFailure: true
status:
  startTime: "2026-05-17T08:00:00Z"
`)
	want := &plan.Plan{
		Simulation:   "lot.rush-hour",
		Seed:         42,
		StartTime:    time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC),
		Duration:     plan.Duration(30 * time.Minute),
		DrainTimeout: plan.Duration(time.Minute),
		Suspended:    true,
		Partitions:   4,
		QueueType:    plan.QueueTypeClassic,
		Durability:   plan.DurabilitySynced,
		Entry: plan.Entry{Schedule: plan.Schedule{
			Rate: 200, Arrivals: plan.ArrivalsPoisson, Replicas: 2,
			Stages: []plan.Stage{{Duration: plan.Duration(5 * time.Minute), Rate: 2000}, {Duration: plan.Duration(time.Millisecond)}},
		}},
		Exit:      plan.Exit{Schedule: plan.Schedule{Arrivals: plan.ArrivalsUniform}},
		MaxStay:   plan.Duration(10 * time.Minute),
		Processor: plan.Processor{Concurrency: 16},
		Faults: []plan.Fault{
			{Name: "crash", Target: plan.TargetRedis, Action: plan.ActionKill, Instances: 1, At: plan.Duration(2 * time.Minute)},
			{
				Name: "stall", Target: plan.TargetProcessor, Action: plan.ActionPause, Percent: 50, At: plan.Duration(time.Minute),
				Every: plan.Duration(5 * time.Minute), Jitter: plan.Duration(30 * time.Second), For: plan.Duration(20 * time.Second),
			},
		},
		Objectives: plan.Objectives{
			PhaseObjectives: plan.PhaseObjectives{
				ProcessingP99: plan.Duration(5 * time.Millisecond), EndToEndP99: plan.Duration(time.Second),
				MaxLag: plan.Duration(5 * time.Second), MinAchievedPercent: 99,
			},
			WithoutFaults: plan.PhaseObjectives{MaxLag: plan.Duration(time.Second)},
			UnderFaults:   plan.PhaseObjectives{MinAchievedPercent: 50},
			MaxRecovery:   plan.Duration(30 * time.Second),
			MaxLost:       1, MaxUnexpected: 2, AbortOnFailure: true,
		},
		SummaryAPI: plan.SummaryAPI{URL: "https://example.com/v1/visits", External: true},
	}
	if diff := cmp.Diff(want, planOf(t, sim)); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestResolve_RejectsInvalidSimulation(t *testing.T) {
	t.Parallel()
	rate := int32(-1)
	sim := &v1alpha1.ParkingSimulation{}
	sim.Spec.Entry.Rate = &rate
	sim.Spec.Exit.Stages = make([]v1alpha1.Stage, 1)
	resolved, faults := manifest.Resolve(sim)
	want := "metadata.name: Required value: give the simulation a name; " +
		"spec.entry.rate: Invalid value: -1: must be from 0 to 1000000 events per second; " +
		`spec.exit.stages[0].duration: Required value: set the length of the stage, such as "5m"; to change the rate at once, use "1ms"; ` +
		"spec.exit.stages[0].rate: Required value: set the events per second at the end of the stage"
	if resolved != nil || faults.String() != want {
		t.Errorf("Resolve returns %+v and the errors\n%v, want\n%s", resolved, faults, want)
	}
}

func TestResolve_ProbableMistakes_ReturnsWarnings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spec string
		want []string
	}{
		"objectives without a duration":    {"objectives: {endToEndP99: 1s}", []string{"objectives are set, but duration is not: in Kubernetes, the simulation does not end and has no verdict; set duration, such as 30m"}},
		"an abort without a duration":      {"objectives: {abortOnFailure: true}", []string{"objectives are set, but duration is not: in Kubernetes, the simulation does not end and has no verdict; set duration, such as 30m"}},
		"objectives for missing faults":    {"duration: 10m, objectives: {underFaults: {maxLag: 1s}, maxRecovery: 1s}", []string{"objectives.underFaults is set, but there are no faults: the verdict will be FAIL; add faults, or remove objectives.underFaults", "objectives.maxRecovery is set, but there are no faults: the verdict will be FAIL; add faults, or remove objectives.maxRecovery"}},
		"a summary API on localhost":       {"summaryAPI: {url: 'http://localhost:8080/v1'}", []string{"the host of summaryAPI.url is localhost: in Kubernetes, this is the pod itself; use the name of a Service or of another host"}},
		"a summary API on a loopback IP":   {"summaryAPI: {url: 'http://[::1]:8080/v1'}", []string{"the host of summaryAPI.url is ::1: in Kubernetes, this is the pod itself; use the name of a Service or of another host"}},
		"an API on any address in IPv4":    {"summaryAPI: {url: 'http://0.0.0.0:8080'}", []string{"the host of summaryAPI.url is 0.0.0.0: in Kubernetes, this is the pod itself; use the name of a Service or of another host"}},
		"an API on any address in IPv6":    {"summaryAPI: {url: 'http://[::]:8080'}", []string{"the host of summaryAPI.url is ::: in Kubernetes, this is the pod itself; use the name of a Service or of another host"}},
		"an API on localhost with a dot":   {"summaryAPI: {url: 'http://localhost.'}", []string{"the host of summaryAPI.url is localhost.: in Kubernetes, this is the pod itself; use the name of a Service or of another host"}},
		"an API on a name of localhost":    {"summaryAPI: {url: 'http://API.Localhost'}", []string{"the host of summaryAPI.url is API.Localhost: in Kubernetes, this is the pod itself; use the name of a Service or of another host"}},
		"an API on a mapped IP":            {"summaryAPI: {url: 'http://[::ffff:127.0.0.2]'}", []string{"the host of summaryAPI.url is ::ffff:127.0.0.2: in Kubernetes, this is the pod itself; use the name of a Service or of another host"}},
		"a class of no volume":             {"redis: {managed: {storage: {size: 0, storageClassName: ssd}}}", []string{"redis.managed.storage.storageClassName has no effect, because redis.managed.storage.size is 0: the data is in the pod; set the size, for example to 2Gi"}},
		"an image with a capital":          {"redis: {managed: {image: 'MyOrg/redis:7'}}", []string{"redis.managed.image has upper-case letters before the first slash, so container runtimes read MyOrg as the host of a registry: if MyOrg is part of the repository, write myorg/redis:7"}},
		"an image of a registry":           {"rabbitmq: {managed: {image: 'Registry.example.com:5000/a/rabbitmq:4'}}, redis: {managed: {image: 'localhost/redis'}}", nil},
		"labels of no monitoring object":   {"monitoring: {labels: {a: b}, serviceMonitors: Disabled, rules: Disabled, dashboards: Disabled}", []string{"monitoring.labels have no effect, because serviceMonitors, rules and dashboards are Disabled; remove the labels, or set serviceMonitors, rules or dashboards to Auto"}},
		"a limit of 0":                     {"entry: {resources: {limits: {memory: 0}}}", []string{"entry.resources.limits.memory is 0, which means no limit; remove this field, or set it to 32Mi or more, such as 512Mi"}},
		"empty spec":                       {"", nil},
		"as many matched exits as entries": {"entry: {rate: 20}, exit: {rate: 100, matchPercent: 20}", nil},
		"more matched exits than entries":  {"entry: {rate: 19}, exit: {rate: 100, matchPercent: 20}", []string{"20 % of 100 exits per second are matched, but only 19 entries per second are published: exits without a plate will not be published, but counted as starved; raise entry.rate, or lower exit.rate or exit.matchPercent"}},
		"entry stages reach enough":        {"entry: {rate: 1, stages: [{duration: 1m, rate: 20}]}, exit: {rate: 100}", nil},
		"entry stages end too low":         {"entry: {stages: [{duration: 1m, rate: 1}]}, exit: {rate: 100, matchPercent: 2}", []string{"2 % of 100 exits per second are matched, but only 1 entries per second are published: exits without a plate will not be published, but counted as starved; raise entry.rate, or lower exit.rate or exit.matchPercent"}},
		"minStay as long as the duration":  {"duration: 10s, exit: {minStay: 10s}", []string{"exits begin 10.5s after the entries (exit.minStay is 10s), but the simulation ends after 10s: no exit will be published"}},
		"no exits":                         {"duration: 1s, exit: {rate: 0}", nil},
		"no matched exits":                 {"duration: 3s, exit: {matchPercent: 0}", nil},
		"minStay just below the duration":  {"duration: 10s, exit: {minStay: 9800ms}", []string{"exits begin 10.3s after the entries (exit.minStay is 9800ms), but the simulation ends after 10s: no exit will be published"}},
		"only unmatched exits, too late":   {"duration: 2s, exit: {matchPercent: 0}", []string{"exits begin 2.5s after the entries (exit.minStay is 2s), but the simulation ends after 2s: no exit will be published"}},
		"no events":                        {"duration: 1s, entry: {rate: 0}, exit: {rate: 0}", []string{"entry.rate and exit.rate are 0: nothing will be published"}},
		"entries only in a stage":          {"entry: {rate: 0, stages: [{duration: 1m, rate: 1}]}, exit: {rate: 0}", nil},
		"entry stages beyond the end":      {"duration: 1m, entry: {stages: [{duration: 30s, rate: 400}, {duration: 31s, rate: 500}]}", []string{"entry.stages take 1m1s, but the simulation ends after 1m: the rest will have no effect"}},
		"exit stages beyond the end":       {"duration: 1m, exit: {stages: [{duration: 61s, rate: 100}]}", []string{"exit.stages take 1m1s, but the simulation ends after 1m: the rest will have no effect"}},
		"durations as they are written":    {"duration: 61m, exit: {minStay: 90m, stages: [{duration: 121m, rate: 100}]}, plates: {maxStay: 2h}", []string{"exits begin 1h30m0.5s after the entries (exit.minStay is 90m), but the simulation ends after 61m: no exit will be published", "exit.stages take 2h1m, but the simulation ends after 61m: the rest will have no effect"}},
		"stages of whole hours":            {"duration: 1h, exit: {stages: [{duration: 120m, rate: 100}]}", []string{"exit.stages take 2h, but the simulation ends after 1h: the rest will have no effect"}},
		"a duration without an event":      {"duration: 1ms", []string{"the simulation ends after 1ms, before the first entry is due: no entry will be published; raise the duration or the rate of the entries", "exits begin 2.5s after the entries (exit.minStay is 2s), but the simulation ends after 1ms: no exit will be published"}},
		"a duration without an exit":       {"duration: 2505ms", []string{"no exit will be published, because the simulation ends after 2505ms, exits begin 2.5s after the entries, and the rate of the exits is low; raise the duration or the rate of the exits"}},
		"a duration of one event":          {"duration: 2506ms", nil},
		"slow stages":                      {"duration: 10s, entry: {rate: 0, stages: [{duration: 100s, rate: 1}]}, exit: {rate: 0}", []string{"the simulation ends after 10s, before the first entry is due: no entry will be published; raise the duration or the rate of the entries", "entry.stages take 1m40s, but the simulation ends after 10s: the rest will have no effect"}},
		"maxStay just above minStay":       {"exit: {minStay: 120s}, plates: {maxStay: 2m0.5s}", []string{"plates.maxStay, 2m0.5s, is only slightly longer than exit.minStay, 120s: some plates may be forgotten before an exit can use them, and exits without a plate will not be published, but counted as starved; set plates.maxStay to 2m1s or more"}},
		"maxStay well above minStay":       {"plates: {maxStay: 2501ms}", nil},
		"a short maxStay without matches":  {"exit: {matchPercent: 0}, plates: {maxStay: 2001ms}", nil},
		"a tiny drainTimeout":              {"duration: 10m, drainTimeout: 1ms", []string{"drainTimeout is 1ms: in Kubernetes, stopping the generators and emptying the queues takes longer, so the verdict will be FAIL; set drainTimeout to 10s or more, such as 5m"}},
		"a short drainTimeout":             {"duration: 10m, drainTimeout: 10s", nil},
		"a drainTimeout without effect":    {"drainTimeout: 1ms", nil},
		"a latency that nothing reaches":   {"duration: 10m, objectives: {endToEndP99: 1ns, underFaults: {processingP99: 999ns}}, faults: [{name: a, target: Redis, action: Kill, at: 1m}]", []string{"objectives.endToEndP99 is 1ns: no simulation is that fast, so the verdict will be FAIL; raise it, for example to 1s", "objectives.underFaults.processingP99 is 999ns: no simulation is that fast, so the verdict will be FAIL; raise it, for example to 5ms"}},
		"the lowest possible latencies":    {"duration: 10m, objectives: {endToEndP99: 100us, processingP99: 1us}", nil},
		"end to end below processing":      {"duration: 10m, objectives: {endToEndP99: 1ms, processingP99: 5ms}", []string{"objectives.endToEndP99, 1ms, is below objectives.processingP99, 5ms: the end-to-end latency includes the processing latency, so processingP99 has no effect"}},
		"equal objectives":                 {"duration: 10m, objectives: {endToEndP99: 5ms, processingP99: 5ms}", nil},
		"no entry generators":              {"entry: {replicas: 0}", []string{"entry.replicas is 0: no entries will be published", "exit.matchPercent is 20, but entry.replicas is 0: matched exits will have no plate, so they will not be published, but counted as starved; set exit.matchPercent to 0, or entry.replicas to 1"}},
		"no entries and no matched exits":  {"entry: {replicas: 0}, exit: {matchPercent: 0}", []string{"entry.replicas is 0: no entries will be published"}},
		"no exit generators":               {"exit: {replicas: 0}", []string{"exit.replicas is 0: no exits will be published"}},
		"no generators and no rates":       {"entry: {rate: 0, replicas: 0}, exit: {rate: 0, replicas: 0}", []string{"entry.rate and exit.rate are 0: nothing will be published"}},
		"Classic queues on several nodes":  {"rabbitmq: {queueType: Classic, managed: {replicas: 3}}", []string{"rabbitmq.queueType is Classic: each queue is on one of the 3 nodes, and its events are unavailable while that node is unavailable; Quorum replicates the events"}},
		"a volume of 2 bytes":              {"redis: {managed: {storage: {size: 2}}}", []string{"redis.managed.storage.size is 2: the volume will soon be full; give it 100Mi or more, such as 2Gi"}},
		"no volume":                        {"redis: {managed: {storage: {size: 0}}}", nil},
		"tiny volumes":                     {"rabbitmq: {managed: {storage: {size: 99Mi}}}, summaryAPI: {managed: {storage: {size: 1k}}}", []string{"rabbitmq.managed.storage.size is 99Mi: the volume will soon be full; give it 100Mi or more, such as 2Gi", "summaryAPI.managed.storage.size is 1k: the volume will soon be full; give it 100Mi or more, such as 2Gi"}},
		"tiny limits":                      {"entry: {resources: {limits: {memory: 16}}}, rabbitmq: {managed: {resources: {limits: {memory: 128Mi}}}}", []string{"entry.resources.limits.memory is 16: the container will be killed; give it 32Mi or more, such as 512Mi", "rabbitmq.managed.resources.limits.memory is 128Mi: the container will be killed; give it 256Mi or more, such as 512Mi"}},
		"tiny limits of CPU":               {"entry: {resources: {limits: {cpu: 1n}}}, exit: {resources: {limits: {cpu: 9m}, requests: {cpu: 1m}}}, processor: {resources: {limits: {cpu: 0}}}", []string{"entry.resources.limits.cpu is 1n: the container gets almost no CPU time; give it 10m or more, such as 500m", "exit.resources.limits.cpu is 9m: the container gets almost no CPU time; give it 10m or more, such as 500m", "processor.resources.limits.cpu is 0, which means no limit; remove this field, or set it to 10m or more, such as 500m"}},
		"more CPU than nodes have":         {"entry: {resources: {limits: {cpu: 100M}}}, exit: {resources: {requests: {cpu: 2Gi}}}, processor: {resources: {limits: {cpu: 500}, requests: {cpu: 257}}}", []string{"entry.resources.limits.cpu is 100M, which is also the request: few nodes have that much, and the pod may stay Pending; reduce it, for example to 500m", "exit.resources.requests.cpu is 2Gi: few nodes have that much, and the pod may stay Pending; reduce it, for example to 500m", "processor.resources.requests.cpu is 257: few nodes have that much, and the pod may stay Pending; reduce it, for example to 500m"}},
		"more memory than nodes have":      {"redis: {managed: {resources: {limits: {memory: '1e99'}}}}, entry: {resources: {requests: {memory: 17Ti}}}", []string{"entry.resources.requests.memory is 17Ti: few nodes have that much, and the pod may stay Pending; reduce it, for example to 512Mi", "redis.managed.resources.limits.memory is 1e99, which is also the request: few nodes have that much, and the pod may stay Pending; reduce it, for example to 512Mi"}},
		"a huge volume":                    {"redis: {managed: {storage: {size: 65Ti}}}", []string{"redis.managed.storage.size is 65Ti: few storage systems provide such a large volume, and the pod may stay Pending; reduce it, for example to 2Gi"}},
		"limits that nodes have":           {"entry: {resources: {limits: {cpu: 10m, memory: 16Ti}}}, exit: {resources: {limits: {cpu: 256}}}, processor: {resources: {limits: {cpu: 1k}, requests: {cpu: 1m}}}, redis: {managed: {storage: {size: 64Ti}}}", nil},
		"limits of a template":             {"processor: {template: {spec: {containers: [{name: parking, resources: {limits: {memory: 512, cpu: null}}}, {name: side, image: a, resources: {limits: {memory: 1Mi}}}]}}}, rabbitmq: {managed: {template: {spec: {containers: [{name: rabbitmq, resources: {limits: {memory: 255Mi}}}]}}}}", []string{"processor.template.spec.containers[0].resources.limits.memory is 512: the container will be killed; give it 32Mi or more, such as 512Mi", "processor.template.spec.containers[1].resources.limits.memory is 1Mi: the container will be killed; give it 6Mi or more, such as 512Mi", "rabbitmq.managed.template.spec.containers[0].resources.limits.memory is 255Mi: the container will be killed; give it 256Mi or more, such as 512Mi"}},
		"a small limit of a sidecar":       {"processor: {template: {spec: {containers: [{name: side, image: a, resources: {limits: {memory: 6Mi}}}]}}}", nil},
		"small limits":                     {"processor: {resources: {limits: {memory: 32Mi}, requests: {memory: 1}}}", nil},
		"faults that replace pods of data": {"redis: {managed: {storage: {size: 0}}}, rabbitmq: {managed: {storage: {size: 0}}}, summaryAPI: {managed: {storage: {size: 0}}}, faults: [{name: a, target: Redis, action: Evict, at: 1m}, {name: b, target: RabbitMQ, action: Restart, at: 2m}, {name: c, target: SummaryAPI, action: Restart, at: 3m}]", []string{`the fault "a" replaces a pod of Redis: in Kubernetes, the data in the pod is lost, because redis.managed.storage.size is 0; use Kill, or set the size, for example to 2Gi`, `the fault "b" replaces a pod of RabbitMQ: in Kubernetes, the data in the pod is lost, because rabbitmq.managed.storage.size is 0; use Kill, or set the size, for example to 2Gi`, `the fault "c" replaces a pod of SummaryAPI: in Kubernetes, the data in the pod is lost, because summaryAPI.managed.storage.size is 0; use Kill, or set the size, for example to 2Gi`}},
		"faults that replace no data":      {"redis: {managed: {storage: {size: 0}}}, faults: [{name: a, target: Redis, action: Kill, at: 1m}, {name: b, target: RabbitMQLeader, action: Restart, at: 2m}, {name: c, target: Processor, action: Restart, at: 3m}]", nil},
		"faults of idle targets":           {"entry: {rate: 0}, exit: {matchPercent: 0}, faults: [{name: a, target: EntryGenerator, action: Kill, at: 1m}, {name: b, target: SummaryAPI, action: Kill, at: 2m}, {name: c, target: ExitGenerator, action: Kill, at: 3m}]", []string{`the fault "a" hits EntryGenerator, which is idle because entry.rate is 0: the outcome may be Recovered although the fault affects nothing`, `the fault "b" hits SummaryAPI, which is idle because the generators publish no matched exits: the outcome may be Recovered although the fault affects nothing`}},
		"a fault of an idle generator":     {"exit: {rate: 0}, faults: [{name: a, target: ExitGenerator, action: Kill, at: 1m}]", []string{`the fault "a" hits ExitGenerator, which is idle because exit.rate is 0: the outcome may be Recovered although the fault affects nothing`}},
		"a fault without pods":             {"entry: {replicas: 0, rate: 0}, exit: {matchPercent: 0}, faults: [{name: a, target: EntryGenerator, action: Kill, at: 1m}]", []string{`the fault "a" will not be injected, and the verdict will be FAIL: EntryGenerator has no pods`}},
		"a fault of more pods than exist":  {"rabbitmq: {managed: {replicas: 3}}, faults: [{name: a, target: RabbitMQ, action: Kill, at: 1m, pods: 4}]", []string{`the fault "a" is for 4 pods, but RabbitMQ has only 3: the fault hits all of them`}},
		"a fault of some summary APIs":     {"summaryAPI: {managed: {replicas: 2, database: {secretRef: {name: a}}}}, faults: [{name: a, target: SummaryAPI, action: Kill, at: 1m, pods: 2}]", nil},
		"evictions of several pods":        {"processor: {replicas: 3}, faults: [{name: a, target: Processor, action: Evict, at: 1m, pods: 34%}]", []string{`the fault "a" evicts 2 pods of Processor: in Kubernetes, the disruption budget allows one eviction at a time; each further pod waits up to a minute, and if it is not evicted by then, the verdict will be FAIL; use Restart to stop the pods together`}},
		"an eviction of one pod":           {"processor: {replicas: 3}, faults: [{name: a, target: Processor, action: Evict, at: 1m, pods: 33%}]", nil},
		"evictions without a budget":       {"entry: {replicas: 2}, faults: [{name: a, target: EntryGenerator, action: Evict, at: 1m, pods: 2}]", nil},
		"a pause beyond a liveness probe":  {"faults: [{name: a, target: SummaryAPI, action: Pause, at: 1m, for: 41s}]", []string{`the fault "a" pauses SummaryAPI for 41s: in Kubernetes, unless the template sets a more tolerant livenessProbe, the container is restarted after 40 to 60 s, the fault is Aborted, and the verdict will be FAIL; set "for" to 40s or less`}},
		"a pause of a Redis with TLS":      {"redis: {managed: {tls: {}}}, faults: [{name: a, target: Redis, action: Pause, at: 1m, for: 41s}]", []string{`the fault "a" pauses Redis for 41s: in Kubernetes, unless the template sets a more tolerant livenessProbe, the container is restarted after 40 to 60 s, the fault is Aborted, and the verdict will be FAIL; set "for" to 40s or less`}},
		"a pause within a liveness probe":  {"faults: [{name: a, target: Processor, action: Pause, at: 1m, for: 40s}]", nil},
		"a fault just after the start":     {"entry: {rate: 3}, exit: {rate: 0}, faults: [{name: a, target: Redis, action: Kill, at: 4s, jitter: 500ms}]", []string{`the fault "a" may occur as early as 3.5s: the outcome may be NotRecovered, because recovery is measured by comparison with at least 5 events before the fault; set "at" to 4.5s or later`}},
		"a fault after some events":        {"entry: {rate: 3}, exit: {rate: 0}, faults: [{name: a, target: Redis, action: Kill, at: 4500ms, jitter: 500ms}]", nil},
		"a fault early at a high rate":     {"entry: {rate: 300}, exit: {rate: 0}, faults: [{name: a, target: Redis, action: Kill, at: 2s}]", []string{`the fault "a" may occur as early as 2s: the outcome may be NotRecovered, because recovery is measured by comparison with at least 5 events before the fault; set "at" to 3s or later`}},
		"a fault before any event":         {"entry: {rate: 0}, exit: {rate: 0}, faults: [{name: a, target: Redis, action: Kill, at: 1m}]", []string{"entry.rate and exit.rate are 0: nothing will be published", `the fault "a" may occur as early as 1m: the outcome may be NotRecovered, because recovery is measured by comparison with at least 5 events before the fault; raise the rates`}},
		"a fault just before the end":      {"duration: 30s, faults: [{name: a, target: Redis, action: Pause, at: 20s, for: 5100ms}]", []string{`the fault "a" may end as late as 25.1s, but the simulation ends after 30s: the fault may be NotInjected, which makes the verdict FAIL, or NotRecovered, because recovery is proved only by 5s of normal operation; set "duration" to 35.1s, which leaves 5s to recover and 5s to prove the recovery, or let the fault end earlier`}},
		"a fault 5 s before the end":       {"duration: 30s, faults: [{name: a, target: Redis, action: Pause, at: 18s, jitter: 2s, for: 5s}]", nil},
		"the last of many faults":          {"duration: 2m, faults: [{name: a, target: Redis, action: Kill, at: 10s, every: 54s}]", []string{`the fault "a" may end as late as 1m58s, but the simulation ends after 2m: the fault may be NotInjected, which makes the verdict FAIL, or NotRecovered, because recovery is proved only by 5s of normal operation; set "duration" to 2m8s, which leaves 5s to recover and 5s to prove the recovery, or let the fault end earlier`}},
		"faults in quick succession":       {"duration: 2m, faults: [{name: a, target: Redis, action: Kill, at: 10s, every: 4s}]", []string{`the fault "a" may end as late as 1m58s, but the simulation ends after 2m: the fault may be NotInjected, which makes the verdict FAIL, or NotRecovered, because recovery is proved only by 5s of normal operation; raise "every" to more than 10s, which leaves 5s to recover and 5s to prove the recovery`}},
		"a fault that waits too long":      {"duration: 24s, faults: [{name: a, target: Redis, action: Pause, at: 4s, for: 8s}, {name: b, target: Redis, action: Pause, at: 6s, for: 13s}]", []string{`the fault "b" is due while the fault "a" may still affect Redis (until 12s after the start of the simulation): "b" then waits, and if it cannot be injected in time, the verdict will be FAIL; leave more time between these faults`}},
		"a fault due after the other ends": {"duration: 1m, faults: [{name: b, target: Redis, action: Kill, at: 3s, every: 20s}, {name: a, target: Redis, action: Isolate, at: 10s, for: 12s}]", nil},
		"a repeated fault that waits":      {"duration: 1m, faults: [{name: b, target: Redis, action: Kill, at: 3s, every: 12s}, {name: a, target: Redis, action: Isolate, at: 10s, for: 19s}]", []string{`the fault "b" is due while the fault "a" may still affect Redis (until 29s after the start of the simulation): "b" then waits, and if it cannot be injected in time, the verdict will be FAIL; leave more time between these faults`}},
		"a wait for a repeated fault":      {"duration: 1m, faults: [{name: b, target: Redis, action: Isolate, at: 31s, for: 23s}, {name: a, target: Redis, action: Pause, at: 4s, for: 9s, every: 25s}]", []string{`the fault "b" is due while the fault "a" may still affect Redis (until 38s after the start of the simulation): "b" then waits, and if it cannot be injected in time, the verdict will be FAIL; leave more time between these faults`}},
		"a fault that waits long enough":   {"duration: 30s, faults: [{name: a, target: Redis, action: Pause, at: 4s, for: 8s}, {name: b, target: Redis, action: Kill, at: 6s}, {name: c, target: RabbitMQ, action: Pause, at: 6s, for: 18s}]", nil},
		"a pause without a liveness probe": {"faults: [{name: a, target: RabbitMQ, action: Pause, at: 1m, for: 10m}, {name: b, target: Redis, action: Pause, at: 1m, for: 10m}]", nil},
		"an isolation has no such limit":   {"faults: [{name: a, target: Processor, action: Isolate, at: 1m, for: 10m}]", nil},
		"faults of a suspended one":        {"suspend: true, duration: 10m, faults: [{name: a, target: Redis, action: Kill, at: 1s}, {name: b, target: Processor, action: Pause, at: 1m, for: 8m59s}]", nil},
		"a fault of all pods":              {"faults: [{name: a, target: Processor, action: Kill, at: 1m, pods: 100%}]", nil},
		"no processors":                    {"processor: {replicas: 0}", []string{"processor.replicas is 0: events will stay in their queues"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resolved, _ := manifest.Resolve(read(t, head+"spec: {"+tt.spec+"}\n"))
			if diff := cmp.Diff(tt.want, resolved.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
