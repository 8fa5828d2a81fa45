// Package manifesttest provides manifests for tests of the CRD and of package manifest.
package manifesttest

import "strings"

// Head is the beginning of a valid manifest in YAML. It may be followed by a spec.
const Head = "apiVersion: simulation.parking.dev/v1alpha1\nkind: ParkingSimulation\nmetadata: {name: rush-hour}\n"

// Faulty is an invalid manifest, with the errors that are expected for it.
type Faulty struct {
	// Name says what is invalid. It is the name of the subtest.
	Name string
	// Spec contains the fields of the spec in YAML flow style, without the surrounding braces.
	Spec string
	// Error is the complete error that manifest.Read returns.
	Error string
	// Admission is a part of the error that the API server returns when the object is created. It is empty if
	// the API server accepts the object.
	Admission string
}

// Manifest returns the whole manifest in YAML.
func (f Faulty) Manifest() string { return Head + "spec: {" + f.Spec + "}\n" }

// FaultyManifests returns manifests that manifest.Read rejects.
func FaultyManifests() []Faulty {
	return []Faulty{
		// Wrong names and types of fields.
		{
			Name:      "an unknown field",
			Spec:      "entri: {}",
			Error:     `spec.entri: Forbidden: unknown field: did you mean "entry"?`,
			Admission: `unknown field "spec.entri"`,
		},
		{
			Name:      "an unknown field deep down",
			Spec:      "entry: {stages: [{duration: 1s, rate: 1}, {duration: 1s, raet: 1}]}",
			Error:     `spec.entry.stages[1].raet: Forbidden: unknown field: did you mean "rate"?`,
			Admission: `unknown field "spec.entry.stages[1].raet"`,
		},
		{
			Name:      "an unknown field that resembles another one",
			Spec:      "speed: 1",
			Error:     `spec.speed: Forbidden: unknown field: did you mean "seed"?`,
			Admission: `unknown field "spec.speed"`,
		},
		{
			Name:      "an unknown field that resembles no other",
			Spec:      "velocity: 1",
			Error:     `spec.velocity: Forbidden: unknown field: remove it; known fields are deletionPolicy, drainTimeout, duration, entry, exit, faults, monitoring, objectives, plates, processor, rabbitmq, redis, seed, summaryAPI, suspend`,
			Admission: `unknown field "spec.velocity"`,
		},
		{
			Name:      "two faults at once",
			Spec:      "entry: {rate: x, raet: 1}",
			Error:     `spec.entry.raet: Forbidden: unknown field: did you mean "rate"?; spec.entry.rate: Invalid value: "x": must be a whole number of at most 32 bits, such as 10`,
			Admission: `unknown field "spec.entry.raet"`,
		},
		{
			Name:      "a rate that is a word",
			Spec:      "entry: {rate: fast}",
			Error:     `spec.entry.rate: Invalid value: "fast": must be a whole number of at most 32 bits, such as 10`,
			Admission: `spec.entry.rate in body must be of type integer: "string"`,
		},
		{
			Name:      "a rate with a fraction",
			Spec:      "entry: {rate: 1.5}",
			Error:     `spec.entry.rate: Invalid value: 1.5: must be a whole number of at most 32 bits, such as 10`,
			Admission: `spec.entry.rate in body must be of type int32: "float64"`,
		},
		{
			Name:      "a rate beyond 32 bits",
			Spec:      "entry: {rate: 3000000000}",
			Error:     `spec.entry.rate: Invalid value: 3000000000: must be a whole number of at most 32 bits, such as 10`,
			Admission: `spec.entry.rate in body should be less than or equal to 1000000`,
		},
		{
			Name:      "suspend is a word",
			Spec:      "suspend: maybe",
			Error:     `spec.suspend: Invalid value: "maybe": must be true or false, without quotes`,
			Admission: `spec.suspend in body must be of type boolean: "string"`,
		},
		{
			Name:      "a policy that is a number",
			Spec:      "deletionPolicy: 1",
			Error:     `spec.deletionPolicy: Invalid value: 1: must be a string: write "1"`,
			Admission: `spec.deletionPolicy in body must be of type string: "integer"`,
		},
		{
			Name:      "stages that are an object",
			Spec:      "entry: {stages: {duration: 1s}}",
			Error:     `spec.entry.stages: Invalid value: {…}: must be a list such as [{duration: 5m, rate: 2000}]`,
			Admission: `spec.entry.stages in body must be of type array: "object"`,
		},
		{
			Name:      "a duration without a unit",
			Spec:      "duration: 30",
			Error:     `spec.duration: Invalid value: 30: must be a duration such as "30s" or "1h30m"`,
			Admission: `spec.duration in body must be of type string: "integer"`,
		},
		{
			Name:      "a duration in days",
			Spec:      "duration: 1d",
			Error:     `spec.duration: Invalid value: "1d": must be a duration above 0s and up to 8760h, such as "30m"`,
			Admission: `must be a duration from 0s to 8760h such as "30s" or "1h30m"`,
		},
		{
			Name:      "a size that is a word",
			Spec:      "redis: {managed: {storage: {size: big}}}",
			Error:     `spec.redis.managed.storage.size: Invalid value: "big": must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
			Admission: `must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
		},
		{
			Name:      "labels that are a list",
			Spec:      "monitoring: {labels: [a]}",
			Error:     `spec.monitoring.labels: Invalid value: […]: must be an object such as {team: a}`,
			Admission: `spec.monitoring.labels in body must be of type object: "array"`,
		},
		{
			Name:  "a template with an unknown field",
			Spec:  "entry: {template: {spec: {nodeSelecter: {}}}}",
			Error: `spec.entry.template.spec.nodeSelecter: Forbidden: unknown field: did you mean "nodeSelector"?`,
		},
		{
			Name:  "a container with an unknown field",
			Spec:  "processor: {template: {spec: {containers: [{name: parking, imagePolicy: Always}]}}}",
			Error: `spec.processor.template.spec.containers[0].imagePolicy: Forbidden: unknown field: remove it; "kubectl explain" lists the known fields`,
		},
		{
			Name:  "a template of the wrong type",
			Spec:  "exit: {template: {spec: {hostNetwork: 1}}}",
			Error: `spec.exit.template.spec.hostNetwork: Invalid value: 1: must be true or false, without quotes`,
		},
		{
			Name:      "a template that is a list",
			Spec:      "summaryAPI: {managed: {template: {spec: [a]}}}",
			Error:     `spec.summaryAPI.managed.template.spec: Invalid value: […]: must be an object`,
			Admission: `spec.summaryAPI.managed.template.spec in body must be of type object: "array"`,
		},

		// Faults.
		{
			Name:      "faults that are an object",
			Spec:      `faults: {name: a, target: Redis, action: Kill, at: 10s}`,
			Error:     `spec.faults: Invalid value: {…}: must be a list such as [{name: redis-crash, target: Redis, action: Kill, at: 2m}]`,
			Admission: `spec.faults in body must be of type array: "object"`,
		},
		{
			Name:      "a fault without fields",
			Spec:      `faults: [{}]`,
			Error:     `spec.faults[0].target: Required value: say what the fault hits, such as Redis or Processor; spec.faults[0].action: Required value: say what happens to the target: Kill, Restart, Evict, Pause or Isolate; spec.faults[0].at: Required value: say when the fault first occurs, such as "2m"; spec.faults[0].name: Required value: give the fault a name, such as "redis-crash"`,
			Admission: `spec.faults[0].name: Required value`,
		},
		{
			Name:      "two faults of one name",
			Spec:      `faults: [{name: a, target: Redis, action: Kill, at: 10s}, {name: a, target: Processor, action: Pause, at: 10s, for: 5s}]`,
			Error:     `spec.faults[1].name: Invalid value: "a": must differ from the name of spec.faults[0]`,
			Admission: `spec.faults[1]: Duplicate value: {"name":"a"}`,
		},
		{
			Name:      "a fault with a name in capitals",
			Spec:      `faults: [{name: A, target: Redis, action: Kill, at: 10s}]`,
			Error:     `spec.faults[0].name: Invalid value: "A": must have at most 40 characters of a-z, 0-9 and '-', and start and end with a letter or digit`,
			Admission: `must have at most 40 characters of a-z, 0-9 and '-'`,
		},
		{
			Name:      "a fault with an unknown target",
			Spec:      `faults: [{name: a, target: Postgres, action: Kill, at: 10s}]`,
			Error:     `spec.faults[0].target: Unsupported value: "Postgres": supported values: "RabbitMQ", "RabbitMQLeader", "Redis", "SummaryAPI", "Processor", "EntryGenerator", "ExitGenerator"`,
			Admission: `spec.faults[0].target: Unsupported value: "Postgres"`,
		},
		{
			Name:      "a fault with an unknown action",
			Spec:      `faults: [{name: a, target: Redis, action: Crash, at: 10s}]`,
			Error:     `spec.faults[0].action: Unsupported value: "Crash": supported values: "Kill", "Restart", "Evict", "Pause", "Isolate"`,
			Admission: `spec.faults[0].action: Unsupported value: "Crash"`,
		},
		{
			Name:      "a pause without its length",
			Spec:      `faults: [{name: a, target: Redis, action: Pause, at: 10s}]`,
			Error:     `spec.faults[0].for: Required value: say how long Pause lasts, such as "20s"`,
			Admission: `spec.faults[0].for: Required value: is required for Pause and Isolate: say how long the fault lasts, such as "20s"`,
		},
		{
			Name:      "a kill that lasts",
			Spec:      `faults: [{name: a, target: Redis, action: Kill, at: 10s, for: 5s}]`,
			Error:     `spec.faults[0].for: Forbidden: is only for Pause and Isolate, because the other actions do not last: remove it`,
			Admission: `spec.faults[0].for: Forbidden: is only for Pause and Isolate, because the other actions do not last: remove it`,
		},
		{
			Name:      "a fault of no pods",
			Spec:      `faults: [{name: a, target: Redis, action: Kill, at: 10s, pods: 0}]`,
			Error:     `spec.faults[0].pods: Invalid value: "0": must be a number from 1 to 999, or a percentage from "1%" to "100%"`,
			Admission: `must be a number from 1 to 999, or a percentage from "1%" to "100%"`,
		},
		{
			Name:      "a fault too often",
			Spec:      `faults: [{name: a, target: Redis, action: Kill, at: 10s, every: 500ms}]`,
			Error:     `spec.faults[0].every: Invalid value: "500ms": must be at least 1s; remove it to inject the fault once`,
			Admission: `must be at least 1s; remove it to inject the fault once`,
		},
		{
			Name:      "a fault that overlaps with itself",
			Spec:      `faults: [{name: a, target: Processor, action: Pause, at: 10s, for: 5s, every: 7s, jitter: 1s}]`,
			Error:     `spec.faults[0].every: Invalid value: "7s": must be longer than for plus twice jitter, which is 7s, or an occurrence begins before the previous one ends: raise every, or lower for or jitter`,
			Admission: `must be longer than for plus twice jitter, or an occurrence begins before the previous one ends`,
		},
		{
			Name:      "a fault before the start",
			Spec:      `faults: [{name: a, target: Redis, action: Kill, at: 10s, jitter: 11s}]`,
			Error:     `spec.faults[0].jitter: Invalid value: "11s": must not exceed at, which is 10s, or the fault begins before the simulation does: lower jitter or raise at`,
			Admission: `must not exceed at, or the fault begins before the simulation does`,
		},
		{
			Name:      "a fault that outlasts the simulation",
			Spec:      `duration: 15s, faults: [{name: a, target: Processor, action: Pause, at: 10s, for: 5s}]`,
			Error:     `spec.faults[0].at: Invalid value: "10s": at, for and jitter must together be less than duration, which is 15s, or the simulation ends before the fault does: raise duration or lower at`,
			Admission: `at, for and jitter of each fault must together be less than duration`,
		},
		{
			Name:      "a fault of an external RabbitMQ",
			Spec:      `rabbitmq: {secretRef: {name: s}}, faults: [{name: a, target: RabbitMQLeader, action: Kill, at: 10s}]`,
			Error:     `spec.faults[0].target: Invalid value: "RabbitMQLeader": a fault cannot target an external server: remove the fault, or remove rabbitmq.secretRef to run a managed server`,
			Admission: `a fault cannot target an external server: remove the faults of RabbitMQ`,
		},
		{
			Name:      "a fault of a RabbitmqCluster",
			Spec:      `rabbitmq: {clusterRef: {name: s}}, faults: [{name: a, target: RabbitMQ, action: Kill, at: 10s}]`,
			Error:     `spec.faults[0].target: Invalid value: "RabbitMQ": a fault cannot target an external server: remove the fault, or remove rabbitmq.clusterRef to run a managed server`,
			Admission: `a fault cannot target an external server: remove the faults of RabbitMQ`,
		},
		{
			Name:      "a fault of an external Redis",
			Spec:      `redis: {secretRef: {name: s}}, faults: [{name: a, target: Redis, action: Kill, at: 10s}]`,
			Error:     `spec.faults[0].target: Invalid value: "Redis": a fault cannot target an external server: remove the fault, or remove redis.secretRef to run a managed server`,
			Admission: `a fault cannot target an external server: remove the faults of Redis`,
		},
		{
			Name:      "a fault of an external API",
			Spec:      `summaryAPI: {url: 'https://a.b'}, faults: [{name: a, target: SummaryAPI, action: Kill, at: 10s}]`,
			Error:     `spec.faults[0].target: Invalid value: "SummaryAPI": a fault cannot target an external server: remove the fault, or remove summaryAPI.url to run a managed server`,
			Admission: `a fault cannot target an external server: remove the faults of SummaryAPI`,
		},
		{
			Name:      "a fault of the leader of classic queues",
			Spec:      `rabbitmq: {queueType: Classic}, faults: [{name: a, target: RabbitMQLeader, action: Kill, at: 10s}]`,
			Error:     `spec.faults[0].target: Invalid value: "RabbitMQLeader": requires quorum queues, because classic queues have no leader: set the target to RabbitMQ, or rabbitmq.queueType to Quorum`,
			Admission: `the target RabbitMQLeader requires quorum queues`,
		},

		// Values that have the wrong form, or are in the wrong place.
		{
			Name:      "a rate in quotes",
			Spec:      `entry: {rate: "200"}`,
			Error:     `spec.entry.rate: Invalid value: "200": must be a number without quotes: write 200`,
			Admission: `spec.entry.rate in body must be of type integer: "string"`,
		},
		{
			Name:      "suspend in quotes",
			Spec:      `suspend: "true"`,
			Error:     `spec.suspend: Invalid value: "true": must be true or false, without quotes`,
			Admission: `spec.suspend in body must be of type boolean: "string"`,
		},
		{
			Name:      "a duration with a blank before it",
			Spec:      `duration: " 30m"`,
			Error:     `spec.duration: Invalid value: " 30m": must be a duration above 0s and up to 8760h, such as "30m": remove the white space around the value`,
			Admission: `must be a duration from 0s to 8760h such as "30s" or "1h30m"`,
		},
		{
			Name:      "a duration with a line end",
			Spec:      `duration: "30m\n"`,
			Error:     `spec.duration: Invalid value: "30m\n": must be a duration above 0s and up to 8760h, such as "30m": remove the white space around the value`,
			Admission: `must be a duration from 0s to 8760h such as "30s" or "1h30m"`,
		},
		{
			Name:      "a policy with a blank after it",
			Spec:      `deletionPolicy: "Delete "`,
			Error:     `spec.deletionPolicy: Unsupported value: "Delete ": supported values: "Delete", "Retain": remove the white space around the value`,
			Admission: `spec.deletionPolicy: Unsupported value: "Delete ": supported values: "Delete", "Retain"`,
		},
		{
			Name:      "a Secret with a blank after its name",
			Spec:      `redis: {secretRef: {name: "my-secret "}}`,
			Error:     `spec.redis.secretRef.name: Invalid value: "my-secret ": must be the name of a Secret, in lower case, without its namespace: remove the white space around the value`,
			Admission: `must be the name of a Secret, in lower case, without its namespace`,
		},
		{
			Name:      "storage that is a size",
			Spec:      `redis: {managed: {storage: 2Gi}}`,
			Error:     `spec.redis.managed.storage: Invalid value: "2Gi": must be an object such as {size: 2Gi}`,
			Admission: `spec.redis.managed.storage in body must be of type object: "string"`,
		},
		{
			Name:      "a Secret that is a name",
			Spec:      `redis: {secretRef: my-secret}`,
			Error:     `spec.redis.secretRef: Invalid value: "my-secret": must be an object such as {name: my-secret}`,
			Admission: `spec.redis.secretRef in body must be of type object: "string"`,
		},
		{
			Name:      "a Secret that is a URI",
			Spec:      `redis: {secretRef: "redis://user:hunter2@h"}`,
			Error:     `spec.redis.secretRef: Invalid value: must be an object such as {name: my-secret}`,
			Admission: `spec.redis.secretRef in body must be of type object: "string"`,
		},
		{
			Name:      "a password in a list",
			Spec:      `redis: {secretRef: [{password: hunter2}]}`,
			Error:     `spec.redis.secretRef: Invalid value: […]: must be an object such as {name: my-secret}`,
			Admission: `spec.redis.secretRef in body must be of type object: "array"`,
		},
		{
			Name:      "a cluster that is a name",
			Spec:      `rabbitmq: {clusterRef: my-cluster}`,
			Error:     `spec.rabbitmq.clusterRef: Invalid value: "my-cluster": must be an object such as {name: my-cluster}`,
			Admission: `spec.rabbitmq.clusterRef in body must be of type object: "string"`,
		},
		{
			Name:      "resources that are a size",
			Spec:      `entry: {resources: {limits: 2Gi}}`,
			Error:     `spec.entry.resources.limits: Invalid value: "2Gi": must be an object such as {memory: 512Mi}`,
			Admission: `spec.entry.resources.limits in body must be of type object: "string"`,
		},
		{
			Name:      "maxStay in exit",
			Spec:      `exit: {maxStay: 1h}`,
			Error:     `spec.exit.maxStay: Forbidden: unknown field: maxStay is a field of spec.plates`,
			Admission: `unknown field "spec.exit.maxStay"`,
		},
		{
			Name:      "a rate in the spec",
			Spec:      `rate: 5`,
			Error:     `spec.rate: Forbidden: unknown field: rate is a field of spec.entry, spec.exit`,
			Admission: `unknown field "spec.rate"`,
		},
		{
			Name:      "storage in the spec",
			Spec:      `storage: {size: 2Gi}`,
			Error:     `spec.storage: Forbidden: unknown field: storage is a field of spec.rabbitmq.managed, spec.redis.managed, spec.summaryAPI.managed`,
			Admission: `unknown field "spec.storage"`,
		},
		{
			Name:      "a template expression in quotes",
			Spec:      `duration: "{{ .Values.duration }}"`,
			Error:     `spec.duration: Invalid value: "{{ .Values.duration }}": must be a duration above 0s and up to 8760h, such as "30m"; line 4 has the template expression {{ }}: render the manifest first, for example with "helm template" or "envsubst"`,
			Admission: `must be a duration from 0s to 8760h such as "30s" or "1h30m"`,
		},
		{
			Name:      "minutes beyond maxStay",
			Spec:      `exit: {minStay: 61m}`,
			Error:     `spec.exit.minStay: Invalid value: "61m": must be less than plates.maxStay, which is 1h, or every car is forgotten before it may leave: lower exit.minStay or raise plates.maxStay`,
			Admission: `exit.minStay must be less than plates.maxStay`,
		},

		// Pod templates whose pods could not be started.
		{
			Name:  "a container without a name",
			Spec:  `processor: {template: {spec: {containers: [{image: "side:v1"}]}}}`,
			Error: `spec.processor.template.spec.containers[0].name: Required value: the items of this list are merged by name`,
		},
		{
			Name:  "a container with the name null",
			Spec:  `processor: {template: {spec: {containers: [{name: null, image: "side:v1"}]}}}`,
			Error: `spec.processor.template.spec.containers[0].name: Invalid value: "": must be the name of a container, such as "parking": at most 63 characters of a-z, 0-9 and '-'`,
		},
		{
			Name:  "a container in capitals",
			Spec:  `processor: {template: {spec: {containers: [{name: Parking}]}}}`,
			Error: `spec.processor.template.spec.containers[0].name: Invalid value: "Parking": must be the name of a container, such as "parking": at most 63 characters of a-z, 0-9 and '-'`,
		},
		{
			Name:  "a container of other pods",
			Spec:  `processor: {template: {spec: {containers: [{name: redis, env: [{name: A, value: hunter2}]}]}}}`,
			Error: `spec.processor.template.spec.containers[0].image: Required value: "redis" is a new container: give it an image, or name the operator's container, "parking"`,
		},
		{
			Name:  "an init container of other pods",
			Spec:  `redis: {managed: {template: {spec: {initContainers: [{name: cookie}]}}}}`,
			Error: `spec.redis.managed.template.spec.initContainers[0].image: Required value: "cookie" is a new container: give it an image`,
		},
		{
			Name:  "two containers of one name",
			Spec:  `processor: {template: {spec: {containers: [{name: parking}], initContainers: [{name: parking, image: "first:v1"}]}}}`,
			Error: `spec.processor.template.spec.initContainers[0].name: Invalid value: "parking": must differ from the name of spec.processor.template.spec.containers[0]`,
		},
		{
			Name:  "a container with an invalid image",
			Spec:  `processor: {template: {spec: {containers: [{name: side, image: "side latest"}]}}}`,
			Error: `spec.processor.template.spec.containers[0].image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:  "a container without restarts",
			Spec:  `processor: {template: {spec: {containers: [{name: parking, restartPolicy: OnFailure}]}}}`,
			Error: `spec.processor.template.spec.containers[0].restartPolicy: Invalid value: "OnFailure": must be "Always" or absent: the operator's workloads restart a container that ends`,
		},
		{
			Name:  "pods without restarts",
			Spec:  `processor: {template: {spec: {restartPolicy: Never}}}`,
			Error: `spec.processor.template.spec.restartPolicy: Invalid value: "Never": must be "Always" or absent: the operator's workloads restart a pod that ends`,
		},
		{
			Name:  "a resource in capitals in a template",
			Spec:  `processor: {template: {spec: {containers: [{name: parking, resources: {limits: {CPU: 1}}}]}}}`,
			Error: `spec.processor.template.spec.containers[0].resources.limits[CPU]: Forbidden: unknown resource: must be "cpu", "memory", "ephemeral-storage", "hugepages-<size>" or an extended resource such as "example.com/gpu"`,
		},
		{
			Name:  "thousandths of a byte in a template",
			Spec:  `processor: {template: {spec: {containers: [{name: parking, resources: {limits: {memory: 512m, cpu: null}}}]}}}`,
			Error: `spec.processor.template.spec.containers[0].resources.limits[memory]: Invalid value: "512m": must be a whole quantity such as "512Mi" or "2Gi"`,
		},
		{
			Name:  "a variable without a name",
			Spec:  `processor: {template: {spec: {containers: [{name: parking, env: [{value: hunter2}]}]}}}`,
			Error: `spec.processor.template.spec.containers[0].env[0].name: Required value: the items of this list are merged by name`,
		},
		{
			Name:  "a variable that is a number",
			Spec:  `processor: {template: {spec: {containers: [{name: parking, env: [{name: PIN, value: 4711}]}]}}}`,
			Error: `spec.processor.template.spec.containers[0].env[0].value: Invalid value: must be a string: put it in quotes`,
		},
		{
			Name:  "a port without a number",
			Spec:  `processor: {template: {spec: {containers: [{name: parking, ports: [{name: http}]}]}}}`,
			Error: `spec.processor.template.spec.containers[0].ports[0].containerPort: Required value: the items of this list are merged by containerPort`,
		},
		{
			Name:  "a volume without a name",
			Spec:  `processor: {template: {spec: {volumes: [{emptyDir: {}}]}}}`,
			Error: `spec.processor.template.spec.volumes[0].name: Required value: the items of this list are merged by name`,
		},

		// Bounds.
		{
			Name:      "a negative rate",
			Spec:      "entry: {rate: -1}",
			Error:     `spec.entry.rate: Invalid value: -1: must be from 0 to 1000000 events per second`,
			Admission: `spec.entry.rate in body should be greater than or equal to 0`,
		},
		{
			Name:      "a rate above the maximum",
			Spec:      "exit: {rate: 1000001}",
			Error:     `spec.exit.rate: Invalid value: 1000001: must be from 0 to 1000000 events per second`,
			Admission: `spec.exit.rate in body should be less than or equal to 1000000`,
		},
		{
			Name:      "a match percentage of 101",
			Spec:      "exit: {matchPercent: 101}",
			Error:     `spec.exit.matchPercent: Invalid value: 101: must be from 0 to 100 percent`,
			Admission: `spec.exit.matchPercent in body should be less than or equal to 100`,
		},
		{
			Name:      "a negative match percentage",
			Spec:      "exit: {matchPercent: -1}",
			Error:     `spec.exit.matchPercent: Invalid value: -1: must be from 0 to 100 percent`,
			Admission: `spec.exit.matchPercent in body should be greater than or equal to 0`,
		},
		{
			Name:      "a negative seed",
			Spec:      "seed: -1",
			Error:     `spec.seed: Invalid value: -1: must not be negative`,
			Admission: `spec.seed in body should be greater than or equal to 0`,
		},
		{
			Name:      "a negative number of pods",
			Spec:      "processor: {replicas: -1}",
			Error:     `spec.processor.replicas: Invalid value: -1: must be from 0 to 1000 pods`,
			Admission: `spec.processor.replicas in body should be greater than or equal to 0`,
		},
		{
			Name:      "too many generators",
			Spec:      "exit: {replicas: 65}",
			Error:     `spec.exit.replicas: Invalid value: 65: must be from 0 to 64 pods`,
			Admission: `spec.exit.replicas in body should be less than or equal to 64`,
		},
		{
			Name:      "a concurrency of 0",
			Spec:      "processor: {concurrency: 0}",
			Error:     `spec.processor.concurrency: Invalid value: 0: must be from 1 to 65535 messages`,
			Admission: `spec.processor.concurrency in body should be greater than or equal to 1`,
		},
		{
			Name:      "0 partitions",
			Spec:      "rabbitmq: {partitions: 0}",
			Error:     `spec.rabbitmq.partitions: Invalid value: 0: must be from 1 to 64 partitions`,
			Admission: `spec.rabbitmq.partitions in body should be greater than or equal to 1`,
		},
		{
			Name:      "too many partitions",
			Spec:      "rabbitmq: {partitions: 65}",
			Error:     `spec.rabbitmq.partitions: Invalid value: 65: must be from 1 to 64 partitions`,
			Admission: `spec.rabbitmq.partitions in body should be less than or equal to 64`,
		},
		{
			Name:      "a duration of 0s",
			Spec:      "duration: 0s",
			Error:     `spec.duration: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "30m"`,
			Admission: `must be above 0s`,
		},
		{
			Name:      "a negative duration",
			Spec:      "duration: -5m",
			Error:     `spec.duration: Invalid value: "-5m": must be a duration above 0s and up to 8760h, such as "30m"`,
			Admission: `must be a duration from 0s to 8760h such as "30s" or "1h30m"`,
		},
		{
			Name:      "a duration above a year",
			Spec:      "duration: 9000h",
			Error:     `spec.duration: Invalid value: "9000h": must be a duration above 0s and up to 8760h, such as "30m"`,
			Admission: `must be a duration from 0s to 8760h such as "30s" or "1h30m"`,
		},
		{
			Name:      "maxStay of 0s",
			Spec:      "exit: {minStay: 0s}, plates: {maxStay: 0s}",
			Error:     `spec.plates.maxStay: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "1h"`,
			Admission: `must be above 0s`,
		},
		{
			Name:      "minStay as long as maxStay",
			Spec:      "exit: {minStay: 60m}",
			Error:     `spec.exit.minStay: Invalid value: "60m": must be less than plates.maxStay, which is 1h, or every car is forgotten before it may leave: lower exit.minStay or raise plates.maxStay`,
			Admission: `exit.minStay must be less than plates.maxStay, or every car is forgotten before it may leave: lower exit.minStay or raise plates.maxStay`,
		},
		{
			Name:      "more vehicles than plates",
			Spec:      "entry: {rate: 8789}, plates: {maxStay: 10000s}",
			Error:     `spec.entry.rate: Invalid value: 8789: times plates.maxStay, 10000s, must not exceed 87880000, the number of plates: lower the rate or plates.maxStay`,
			Admission: `entry.rate times plates.maxStay in seconds must not exceed 87880000, the number of plates: lower entry.rate or plates.maxStay`,
		},
		{
			Name:      "a stage with more vehicles than plates",
			Spec:      "entry: {stages: [{duration: 1m, rate: 1000000}]}",
			Error:     `spec.entry.stages[0].rate: Invalid value: 1000000: times plates.maxStay, 1h, must not exceed 87880000, the number of plates: lower the rate or plates.maxStay`,
			Admission: `the rate of each of entry.stages times plates.maxStay in seconds must not exceed 87880000, the number of plates: lower the rate or plates.maxStay`,
		},
		{
			Name:      "unknown arrivals",
			Spec:      "entry: {arrivals: Bursty}",
			Error:     `spec.entry.arrivals: Unsupported value: "Bursty": supported values: "Uniform", "Poisson"`,
			Admission: `spec.entry.arrivals: Unsupported value: "Bursty": supported values: "Uniform", "Poisson"`,
		},
		{
			Name:      "an empty list of stages",
			Spec:      "entry: {stages: []}",
			Error:     `spec.entry.stages: Invalid value: 0: must have from 1 to 100 items; leave it out for a constant rate`,
			Admission: `spec.entry.stages in body should have at least 1 items`,
		},
		{
			Name:      "too many stages",
			Spec:      "entry: {stages: [" + strings.Repeat("{duration: 1s, rate: 1},", 101) + "]}",
			Error:     `spec.entry.stages: Invalid value: 101: must have from 1 to 100 items; leave it out for a constant rate`,
			Admission: `spec.entry.stages: Too many: 101: must have at most 100 items`,
		},
		{
			Name:      "a stage without duration",
			Spec:      "entry: {stages: [{rate: 10}]}",
			Error:     `spec.entry.stages[0].duration: Required value: say how long the ramp takes, such as "5m"; for a jump take "1ms"`,
			Admission: `spec.entry.stages[0].duration: Required value`,
		},
		{
			Name:      "a stage without rate",
			Spec:      "exit: {stages: [{duration: 5m}]}",
			Error:     `spec.exit.stages[0].rate: Required value: say how many events a second are reached at the end of the stage`,
			Admission: `spec.exit.stages[0].rate: Required value`,
		},
		{
			Name:      "a stage of 0s",
			Spec:      "exit: {stages: [{duration: 0s, rate: 1}]}",
			Error:     `spec.exit.stages[0].duration: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "5m"`,
			Admission: `must be above 0s`,
		},
		{
			Name:      "a stage with a negative rate",
			Spec:      "exit: {stages: [{duration: 1s, rate: -1}]}",
			Error:     `spec.exit.stages[0].rate: Invalid value: -1: must be from 0 to 1000000 events per second`,
			Admission: `spec.exit.stages[0].rate in body should be greater than or equal to 0`,
		},
		{
			Name:      "an unknown queue type",
			Spec:      "rabbitmq: {queueType: Stream}",
			Error:     `spec.rabbitmq.queueType: Unsupported value: "Stream": supported values: "Quorum", "Classic"`,
			Admission: `spec.rabbitmq.queueType: Unsupported value: "Stream": supported values: "Quorum", "Classic"`,
		},
		{
			Name:      "an unknown policy",
			Spec:      "deletionPolicy: Orphan",
			Error:     `spec.deletionPolicy: Unsupported value: "Orphan": supported values: "Delete", "Retain"`,
			Admission: `spec.deletionPolicy: Unsupported value: "Orphan": supported values: "Delete", "Retain"`,
		},
		{
			Name:      "an unknown mode",
			Spec:      "monitoring: {rules: Always}",
			Error:     `spec.monitoring.rules: Unsupported value: "Always": supported values: "Auto", "Disabled"`,
			Admission: `spec.monitoring.rules: Unsupported value: "Always": supported values: "Auto", "Disabled"`,
		},
		{
			Name:      "scraping too often",
			Spec:      "monitoring: {interval: 500ms}",
			Error:     `spec.monitoring.interval: Invalid value: "500ms": must be a duration from 1s to 1h, such as "15s"`,
			Admission: `must be from 1s to 1h`,
		},
		{
			Name:      "an invalid label value",
			Spec:      "monitoring: {labels: {release: 'my prometheus'}}",
			Error:     `spec.monitoring.labels[release]: Invalid value: "my prometheus": must be a label's value: at most 63 letters, digits, dashes, underscores and dots`,
			Admission: `must be a label's value: at most 63 letters, digits, dashes, underscores and dots`,
		},
		{
			Name:      "an invalid label key",
			Spec:      "processor: {template: {metadata: {labels: {'a b': c}}}}",
			Error:     `spec.processor.template.metadata.labels[a b]: Invalid value: "a b": must be a label's key such as "team" or "example.com/team"`,
			Admission: `must have keys such as "team" or "example.com/team"`,
		},
		{
			Name:      "an empty annotation key",
			Spec:      "processor: {template: {metadata: {annotations: {'': c}}}}",
			Error:     `spec.processor.template.metadata.annotations[]: Invalid value: "": must be an annotation's key such as "team" or "example.com/team"`,
			Admission: `must have keys such as "team" or "example.com/team"`,
		},
		{
			Name:      "an objective of 0s",
			Spec:      "objectives: {processingP99: 0s}",
			Error:     `spec.objectives.processingP99: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "5ms"`,
			Admission: `must be above 0s`,
		},
		{
			Name:      "a drain timeout of 0s",
			Spec:      "drainTimeout: 0s",
			Error:     `spec.drainTimeout: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "5m"`,
			Admission: `must be above 0s`,
		},
		{
			Name:      "a recovery of 0s",
			Spec:      "objectives: {maxRecovery: 0s}",
			Error:     `spec.objectives.maxRecovery: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "30s"`,
			Admission: `must be above 0s`,
		},
		{
			Name:      "a negative lag of one phase",
			Spec:      "objectives: {underFaults: {maxLag: -1s}}",
			Error:     `spec.objectives.underFaults.maxLag: Invalid value: "-1s": must be a duration above 0s and up to 8760h, such as "5s"`,
			Admission: `must be a duration from 0s to 8760h such as "30s" or "1h30m"`,
		},
		{
			Name:      "an achieved rate above 100 percent",
			Spec:      "objectives: {withoutFaults: {minAchievedPercent: 101}}",
			Error:     `spec.objectives.withoutFaults.minAchievedPercent: Invalid value: 101: must be from 1 to 100 percent`,
			Admission: `spec.objectives.withoutFaults.minAchievedPercent in body should be less than or equal to 100`,
		},
		{
			Name:      "an objective of a whole run within a phase",
			Spec:      "objectives: {underFaults: {maxLost: 1}}",
			Error:     `spec.objectives.underFaults.maxLost: Forbidden: unknown field: maxLost is a field of spec.objectives`,
			Admission: `unknown field "spec.objectives.underFaults.maxLost"`,
		},
		{
			Name:      "an objective of a phase that is no object",
			Spec:      "objectives: {underFaults: 1s}",
			Error:     `spec.objectives.underFaults: Invalid value: "1s": must be an object such as {endToEndP99: 1s}`,
			Admission: `spec.objectives.underFaults in body must be of type object: "string"`,
		},
		{
			Name:      "an abort that is a word",
			Spec:      "objectives: {abortOnFailure: maybe}",
			Error:     `spec.objectives.abortOnFailure: Invalid value: "maybe": must be true or false, without quotes`,
			Admission: `spec.objectives.abortOnFailure in body must be of type boolean: "string"`,
		},
		{
			Name:      "a negative number of losses",
			Spec:      "objectives: {maxLost: -1}",
			Error:     `spec.objectives.maxLost: Invalid value: -1: must not be negative; 0 allows none`,
			Admission: `spec.objectives.maxLost in body should be greater than or equal to 0`,
		},
		{
			Name:      "two brokers",
			Spec:      "rabbitmq: {managed: {}, secretRef: {name: a}}",
			Error:     `spec.rabbitmq: Invalid value: "managed, secretRef": at most one of clusterRef, managed, secretRef may be set: remove the others`,
			Admission: `at most one of managed, clusterRef and secretRef may be set: remove the others`,
		},
		{
			Name:      "three brokers",
			Spec:      "rabbitmq: {managed: {}, clusterRef: {name: a}, secretRef: {name: a}}",
			Error:     `spec.rabbitmq: Invalid value: "clusterRef, managed, secretRef": at most one of clusterRef, managed, secretRef may be set: remove the others`,
			Admission: `at most one of managed, clusterRef and secretRef may be set: remove the others`,
		},
		{
			Name:      "two stores",
			Spec:      "redis: {managed: {}, secretRef: {name: a}}",
			Error:     `spec.redis: Invalid value: "managed, secretRef": at most one of managed, secretRef may be set: remove the others`,
			Admission: `at most one of managed and secretRef may be set: remove the other`,
		},
		{
			Name:      "two summary APIs",
			Spec:      "summaryAPI: {managed: {}, url: 'https://example.com'}",
			Error:     `spec.summaryAPI: Invalid value: "managed, url": at most one of managed, url may be set: remove the others`,
			Admission: `at most one of managed and url may be set: remove the other`,
		},
		{
			Name:      "a Secret for the managed summary API",
			Spec:      "summaryAPI: {secretRef: {name: a}}",
			Error:     `spec.summaryAPI.secretRef: Forbidden: is for an external API: set url, or remove secretRef`,
			Admission: `secretRef is for an external API: set url, or remove secretRef`,
		},
		{
			Name:      "a URL without scheme",
			Spec:      "summaryAPI: {url: example.com}",
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `must be an absolute http or https URL such as "https://example.com/v1/visits"`,
		},
		{
			Name:      "a URL of another scheme",
			Spec:      "summaryAPI: {url: 'ftp://example.com'}",
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `must be an absolute http or https URL such as "https://example.com/v1/visits"`,
		},
		{
			Name:      "a URL with a password",
			Spec:      "summaryAPI: {url: 'https://user:hunter2@example.com'}",
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "a Secret without name",
			Spec:      "rabbitmq: {secretRef: {}}",
			Error:     `spec.rabbitmq.secretRef.name: Required value: name the Secret`,
			Admission: `spec.rabbitmq.secretRef.name: Required value`,
		},
		{
			Name:      "a Secret with its namespace",
			Spec:      "redis: {secretRef: {name: lot/redis}}",
			Error:     `spec.redis.secretRef.name: Invalid value: "lot/redis": must be the name of a Secret, in lower case, without its namespace`,
			Admission: `must be the name of a Secret, in lower case, without its namespace`,
		},
		{
			Name:      "a cluster in capitals",
			Spec:      "rabbitmq: {clusterRef: {name: Rabbit}}",
			Error:     `spec.rabbitmq.clusterRef.name: Invalid value: "Rabbit": must be the name of a RabbitmqCluster, in lower case, without its namespace`,
			Admission: `must be the name of a RabbitmqCluster, in lower case, without its namespace`,
		},
		{
			Name:      "a cluster in an invalid namespace",
			Spec:      "rabbitmq: {clusterRef: {name: rabbit, namespace: a.b}}",
			Error:     `spec.rabbitmq.clusterRef.namespace: Invalid value: "a.b": must be the name of a namespace, in lower case`,
			Admission: `must be the name of a namespace, in lower case`,
		},
		{
			Name:      "two RabbitMQ nodes",
			Spec:      "rabbitmq: {managed: {replicas: 2}}",
			Error:     `spec.rabbitmq.managed.replicas: Invalid value: 2: must be 1, 3 or 5, as quorum queues need a majority`,
			Admission: `must be 1, 3 or 5, as quorum queues need a majority`,
		},
		{
			Name:      "a negative size",
			Spec:      "redis: {managed: {storage: {size: -1Gi}}}",
			Error:     `spec.redis.managed.storage.size: Invalid value: "-1Gi": must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
			Admission: `must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
		},
		{
			Name:      "a storage class in capitals",
			Spec:      "redis: {managed: {storage: {storageClassName: SSD}}}",
			Error:     `spec.redis.managed.storage.storageClassName: Invalid value: "SSD": must be the name of a StorageClass, in lower case`,
			Admission: `must be the name of a StorageClass, in lower case`,
		},
		{
			Name:      "an image that is too long",
			Spec:      "redis: {managed: {image: " + strings.Repeat("x", 513) + "}}",
			Error:     `spec.redis.managed.image: Too long: may not be more than 512 bytes`,
			Admission: `spec.redis.managed.image: Too long: may not be more than 512 bytes`,
		},
		{
			Name:      "a request above its limit",
			Spec:      "entry: {resources: {requests: {cpu: 2}, limits: {cpu: 1}}}",
			Error:     `spec.entry.resources.requests[cpu]: Invalid value: "2": must not exceed the limit of 1`,
			Admission: `requests must not exceed limits`,
		},
		{
			Name:      "a negative limit",
			Spec:      "entry: {resources: {limits: {memory: -1}}}",
			Error:     `spec.entry.resources.limits[memory]: Invalid value: "-1": must be a whole quantity such as "512Mi" or "2Gi"`,
			Admission: `must be a quantity such as "500m" or "2Gi"`,
		},
		{
			Name:      "an invalid resource name",
			Spec:      "entry: {resources: {limits: {'c p u': 1}}}",
			Error:     `spec.entry.resources.limits[c p u]: Forbidden: unknown resource: must be "cpu", "memory", "ephemeral-storage", "hugepages-<size>" or an extended resource such as "example.com/gpu"`,
			Admission: `must have keys such as "cpu", "memory" or "example.com/gpu"`,
		},
		{
			Name:      "memory with a fraction as exponent",
			Spec:      `entry: {resources: {limits: {memory: 1e1.5}}}`,
			Error:     `spec.entry.resources.limits[memory]: Invalid value: "1e1.5": must be a whole quantity such as "512Mi" or "2Gi"`,
			Admission: `must be a quantity such as "500m" or "2Gi"`,
		},
		{
			Name:      "memory with a huge exponent",
			Spec:      `entry: {resources: {limits: {memory: "1e2147483640"}}}`,
			Error:     `spec.entry.resources.limits[memory]: Invalid value: "1e2147483640": must be a whole quantity such as "512Mi" or "2Gi"`,
			Admission: `must be a quantity such as "500m" or "2Gi"`,
		},
		{
			Name:      "cpu with a huge exponent",
			Spec:      `entry: {resources: {requests: {cpu: 1e999}}}`,
			Error:     `spec.entry.resources.requests[cpu]: Invalid value: "1e999": must be a quantity such as "500m" or "2"`,
			Admission: `must be a quantity such as "500m" or "2Gi"`,
		},
		{
			Name:      "storage with a huge exponent",
			Spec:      `redis: {managed: {storage: {size: "1e10000000"}}}`,
			Error:     `spec.redis.managed.storage.size: Invalid value: "1e10000000": must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
			Admission: `must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
		},
		{
			Name:      "storage in thousandths of a byte",
			Spec:      `redis: {managed: {storage: {size: 2m}}}`,
			Error:     `spec.redis.managed.storage.size: Invalid value: "2m": must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
			Admission: `must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`,
		},
		{
			Name:      "memory in thousandths of a byte",
			Spec:      `entry: {resources: {limits: {memory: 512m}}}`,
			Error:     `spec.entry.resources.limits[memory]: Invalid value: "512m": must be a whole quantity such as "512Mi" or "2Gi"`,
			Admission: `must be whole quantities such as "512Mi", except for cpu`,
		},
		{
			Name:      "a resource in capitals",
			Spec:      `entry: {resources: {limits: {CPU: 1}}}`,
			Error:     `spec.entry.resources.limits[CPU]: Forbidden: unknown resource: must be "cpu", "memory", "ephemeral-storage", "hugepages-<size>" or an extended resource such as "example.com/gpu"`,
			Admission: `must have keys such as "cpu", "memory" or "example.com/gpu"`,
		},
		{
			Name:      "a resource without domain",
			Spec:      `entry: {resources: {limits: {gpu: 1}}}`,
			Error:     `spec.entry.resources.limits[gpu]: Forbidden: unknown resource: must be "cpu", "memory", "ephemeral-storage", "hugepages-<size>" or an extended resource such as "example.com/gpu"`,
			Admission: `must have keys such as "cpu", "memory" or "example.com/gpu"`,
		},
		{
			Name:      "the image library/Redis:7",
			Spec:      `redis: {managed: {image: 'library/Redis:7'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the image redis:",
			Spec:      `redis: {managed: {image: 'redis:'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the image redis latest",
			Spec:      `redis: {managed: {image: 'redis latest'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the image https://docker.io/redis:7",
			Spec:      `redis: {managed: {image: 'https://docker.io/redis:7'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the image redis:7@sha256:abc",
			Spec:      `redis: {managed: {image: 'redis:7@sha256:abc'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the image redis:${TAG}",
			Spec:      `redis: {managed: {image: 'redis:${TAG}'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"; line 4 has the template expression ${TAG}: render the manifest first, for example with "helm template" or "envsubst"`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the image user:password@docker.io/redis:7",
			Spec:      `redis: {managed: {image: 'user:hunter2@docker.io/redis:7'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the image  redis:7",
			Spec:      `redis: {managed: {image: ' redis:7'}}`,
			Error:     `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8": remove the white space around the value`,
			Admission: `spec.redis.managed.image: Invalid value: must be an image reference such as "redis:8" or "registry.example.com/team/redis:8"`,
		},
		{
			Name:      "the URL http://:8080/v1",
			Spec:      `summaryAPI: {url: 'http://:8080/v1'}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "the URL http://example.com:99999/v1",
			Spec:      `summaryAPI: {url: 'http://example.com:99999/v1'}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "the URL https://example.com/v1#visits",
			Spec:      `summaryAPI: {url: 'https://example.com/v1#visits'}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "the URL https://example.com/v1 ",
			Spec:      `summaryAPI: {url: 'https://example.com/v1 '}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment: remove the white space around the value`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "the URL https://<host>/v1",
			Spec:      `summaryAPI: {url: 'https://<host>/v1'}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "the URL https://",
			Spec:      `summaryAPI: {url: 'https://'}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "the URL http:/example.com/v1",
			Spec:      `summaryAPI: {url: 'http:/example.com/v1'}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "the URL https://a..b/v1",
			Spec:      `summaryAPI: {url: 'https://a..b/v1'}`,
			Error:     `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
			Admission: `spec.summaryAPI.url: Invalid value: must be an absolute http or https URL such as "https://example.com/v1/visits", without fragment`,
		},
		{
			Name:      "credentials in the URL https:/user:password@h/v1",
			Spec:      `summaryAPI: {url: 'https:/user:hunter2@h/v1'}`,
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "credentials in the URL http:user:password@h",
			Spec:      `summaryAPI: {url: 'http:user:hunter2@h'}`,
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "credentials in the URL https:backslashes user:password@h",
			Spec:      `summaryAPI: {url: 'https:\\user:hunter2@h'}`,
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "credentials in the URL user:password@h/v1",
			Spec:      `summaryAPI: {url: 'user:hunter2@h/v1'}`,
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "credentials in the URL //user:password@h",
			Spec:      `summaryAPI: {url: '//user:hunter2@h'}`,
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "credentials in the URL https:///user:password@h",
			Spec:      `summaryAPI: {url: 'https:///user:hunter2@h'}`,
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "credentials in the URL https://password@h",
			Spec:      `summaryAPI: {url: 'https://hunter2@h'}`,
			Error:     `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`,
			Admission: `must not hold a user name or password: put them into a Secret and name it in secretRef`,
		},
		{
			Name:      "a Secret with two dots",
			Spec:      `redis: {secretRef: {name: a..b}}`,
			Error:     `spec.redis.secretRef.name: Invalid value: "a..b": must be the name of a Secret, in lower case, without its namespace`,
			Admission: `must be the name of a Secret, in lower case, without its namespace`,
		},
		{
			Name:      "a URI in place of a Secret",
			Spec:      `redis: {secretRef: {name: "redis://user:hunter2@h"}}`,
			Error:     `spec.redis.secretRef.name: Invalid value: must be the name of a Secret, in lower case, without its namespace`,
			Admission: `must be the name of a Secret, in lower case, without its namespace`,
		},
		{
			Name:      "a label key with a domain in capitals",
			Spec:      `monitoring: {labels: {Example.com/a: b}}`,
			Error:     `spec.monitoring.labels[Example.com/a]: Invalid value: "Example.com/a": must be a label's key such as "team" or "example.com/team"`,
			Admission: `must have keys such as "team" or "example.com/team"`,
		},
		{
			Name:      "resource claims",
			Spec:      `entry: {resources: {claims: [{name: a}]}}`,
			Error:     `spec.entry.resources.claims: Forbidden: unknown field: remove it; known fields are limits, requests`,
			Admission: `unknown field "spec.entry.resources.claims"`,
		},
	}
}
