package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/plan"
)

const head = "apiVersion: simulation.parking.dev/v1alpha1\nkind: ParkingSimulation\nmetadata: {name: rush-hour}\n"

func TestReadManifestAccepts(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"no spec at all":                  head,
		"an empty spec":                   head + "spec: {}\n",
		"a spec that is null":             head + "spec:\n",
		"comments and empty documents":    "# nothing\n---\n# still nothing\n---\n" + head + "---\n",
		"JSON, even with tabs":            "{\n\t\"apiVersion\": \"simulation.parking.dev/v1alpha1\",\n\t\"kind\": \"ParkingSimulation\",\n\t\"metadata\": {\"name\": \"rush-hour\"}\n}\n",
		"what kubectl get prints":         head + "spec: {seed: 1}\nstatus: {replicas: 2, conditions: []}\n",
		"Windows line ends":               strings.ReplaceAll(head+"spec: {seed: 1}\n", "\n", "\r\n"),
		"a template with a directive":     head + "spec: {processor: {template: {spec: {nodeSelector: {disk: ssd}, tolerations: [{$patch: replace}]}}}}\n",
		"a rate of whole numbers as 2e2":  head + "spec: {entry: {rate: 2e2}}\n",
		"the longest name":                strings.Replace(head, "rush-hour", strings.Repeat("a", 40), 1),
		"as many cars as there are":       head + "spec: {entry: {rate: 8788}, plates: {maxStay: 10000s}}\n",
		"replicas of zero":                head + "spec: {entry: {replicas: 0}, exit: {replicas: 0}, processor: {replicas: 0}}\n",
		"no storage but the pods' own":    head + "spec: {redis: {managed: {storage: {size: 0}}}}\n",
		"an API of the user's own":        head + "spec: {summaryAPI: {url: 'https://example.com/a@b', secretRef: {name: api}}}\n",
		"aliases":                         head + "spec: {entry: {resources: &r {limits: {cpu: 1}}}, exit: {resources: *r}}\n",
		"resources whose limit is enough": head + "spec: {processor: {resources: {requests: {cpu: 500m}, limits: {cpu: 1}}}}\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := plan.ReadManifest(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if sim.Spec.Seed == nil || *sim.Spec.Seed != 1 {
				t.Errorf("seed is %v, want the default, 1", sim.Spec.Seed)
			}
		})
	}
}

func TestReadManifestRefuses(t *testing.T) {
	t.Parallel()
	spec := func(text string) string { return head + "spec: {" + text + "}\n" }
	tests := map[string]struct{ text, want string }{
		// The file.
		"an empty file":            {"", `the manifest is empty: give it apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation and a metadata.name`},
		"nothing but comments":     {"# nothing\n---\n# here\n", `the manifest is empty: give it apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation and a metadata.name`},
		"two simulations":          {head + "---\n" + head, `there is more than one document: leave one ParkingSimulation in the file`},
		"more than 1 MiB":          {head + strings.Repeat("#", 1<<20), `the manifest is larger than the 1 MiB that it may have`},
		"a list":                   {"- a\n- b\n", `["a","b"] is not an object with fields`},
		"a word":                   {"parking\n", `parking is not an object with fields`},
		"malformed YAML":           {head + "spec: {entry: \n", `not valid YAML: line 4: did not find expected node content`},
		"a tab for indentation":    {head + "spec:\n\tseed: 1\n", `not valid YAML: line 5: found character that cannot start any token`},
		"a key twice":              {head + "spec:\n  seed: 1\n  seed: 2\n", `not valid YAML: line 6: key "seed" already set in map`},
		"a key twice in JSON":      {`{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"a"},"spec":{"seed":1,"seed":2}}`, `duplicate field "spec.seed": give each field once`},
		"aliases without end":      {head + "spec: {a: &a [x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e], g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]}\n", `not valid YAML: document contains excessive aliasing`},
		"an unknown alias":         {head + "spec: *nobody\n", `not valid YAML: unknown anchor 'nobody' referenced`},
		"invalid UTF-8":            {head + "spec: {deletionPolicy: \"\xff\"}\n", `not valid YAML: invalid leading UTF-8 octet`},
		"no apiVersion":            {"kind: ParkingSimulation\n", `apiVersion: Required value: must be simulation.parking.dev/v1alpha1`},
		"another version":          {strings.Replace(head, "v1alpha1", "v1", 1), `apiVersion: Invalid value: "simulation.parking.dev/v1": must be simulation.parking.dev/v1alpha1`},
		"another kind":             {strings.Replace(head, "kind: ParkingSimulation", "kind: Deployment", 1), `kind: Invalid value: "Deployment": must be ParkingSimulation`},
		"a kind that is a list":    {strings.Replace(head, "kind: ParkingSimulation", "kind: [a]", 1), `kind: Invalid value: "[\"a\"]": must be ParkingSimulation`},
		"no name":                  {strings.Replace(head, "{name: rush-hour}", "{}", 1), `metadata.name: Required value: give the simulation a name`},
		"a name with dots":         {strings.Replace(head, "rush-hour", "rush.hour", 1), `metadata.name: Invalid value: "rush.hour": must have at most 40 characters of a-z, 0-9 and '-', start with a letter and not end with '-'`},
		"a name too long":          {strings.Replace(head, "rush-hour", strings.Repeat("a", 41), 1), `metadata.name: Invalid value: "` + strings.Repeat("a", 41) + `": must have at most 40 characters of a-z, 0-9 and '-', start with a letter and not end with '-'`},
		"a namespace in capitals":  {strings.Replace(head, "{name: rush-hour}", "{name: a, namespace: Lot}", 1), `metadata.namespace: Invalid value: "Lot": must be the name of a namespace: at most 63 characters of a-z, 0-9 and '-'`},
		"labels that are no texts": {strings.Replace(head, "{name: rush-hour}", "{name: a, labels: {a: 1}}", 1), `metadata.labels[a]: Invalid value: "1": must be a string: put it in quotes`},

		// Names and types of fields.
		"an unknown field":               {spec("entri: {}"), `spec.entri: Forbidden: unknown field: did you mean "entry"?`},
		"an unknown field deep down":     {spec("entry: {stages: [{duration: 1s, rate: 1}, {duration: 1s, raet: 1}]}"), `spec.entry.stages[1].raet: Forbidden: unknown field: did you mean "rate"?`},
		"a field that resembles none":    {spec("speed: 1"), `spec.speed: Forbidden: unknown field: did you mean "seed"?`},
		"a field unlike any other":       {spec("velocity: 1"), `spec.velocity: Forbidden: unknown field: remove it, or look up with "kubectl explain" what there is`},
		"a field beside the spec":        {head + "sepc: {}\n", `sepc: Forbidden: unknown field: did you mean "spec"?`},
		"two faults at once":             {spec("entry: {rate: x, raet: 1}"), `spec.entry.raet: Forbidden: unknown field: did you mean "rate"?; spec.entry.rate: Invalid value: "x": must be a whole number of at most 32 bits`},
		"a spec that is a list":          {head + "spec: []\n", `spec: Invalid value: "[]": must be an object`},
		"a rate in words":                {spec("entry: {rate: fast}"), `spec.entry.rate: Invalid value: "fast": must be a whole number of at most 32 bits`},
		"a rate with a fraction":         {spec("entry: {rate: 1.5}"), `spec.entry.rate: Invalid value: "1.5": must be a whole number of at most 32 bits`},
		"a rate beyond 32 bits":          {spec("entry: {rate: 3000000000}"), `spec.entry.rate: Invalid value: "3000000000": must be a whole number of at most 32 bits`},
		"a suspend in words":             {spec("suspend: maybe"), `spec.suspend: Invalid value: "maybe": must be true or false`},
		"a policy that is a number":      {spec("deletionPolicy: 1"), `spec.deletionPolicy: Invalid value: "1": must be a string: put it in quotes`},
		"stages that are an object":      {spec("entry: {stages: {duration: 1s}}"), `spec.entry.stages: Invalid value: "{\"duration\":\"1s\"}": must be a list`},
		"a duration of a number":         {spec("duration: 30"), `spec.duration: Invalid value: "30": must be a duration such as "30s" or "1h30m"`},
		"a duration in days":             {spec("duration: 1d"), `spec.duration: Invalid value: "1d": must be a duration such as "30s" or "1h30m"`},
		"a size in words":                {spec("redis: {managed: {storage: {size: big}}}"), `spec.redis.managed.storage.size: Invalid value: "big": must be a quantity such as "2Gi" or "500m"`},
		"labels that are a list":         {spec("monitoring: {labels: [a]}"), `spec.monitoring.labels: Invalid value: "[\"a\"]": must be an object`},
		"a template with another field":  {spec("entry: {template: {spec: {nodeSelecter: {}}}}"), `spec.entry.template.spec.nodeSelecter: Forbidden: unknown field: did you mean "nodeSelector"?`},
		"a container with another field": {spec("processor: {template: {spec: {containers: [{name: parking, imagePolicy: Always}]}}}"), `spec.processor.template.spec.containers[0].imagePolicy: Forbidden: unknown field: remove it, or look up with "kubectl explain" what there is`},
		"a template of the wrong type":   {spec("exit: {template: {spec: {hostNetwork: 1}}}"), `spec.exit.template.spec.hostNetwork: Invalid value: "1": must be true or false`},
		"a template that is a list":      {spec("summaryAPI: {managed: {template: {spec: [a]}}}"), `spec.summaryAPI.managed.template.spec: Invalid value: "[\"a\"]": must be an object`},

		// Bounds.
		"a negative rate":                {spec("entry: {rate: -1}"), `spec.entry.rate: Invalid value: -1: must be from 0 to 1000000 events a second`},
		"a rate beyond all":              {spec("exit: {rate: 1000001}"), `spec.exit.rate: Invalid value: 1000001: must be from 0 to 1000000 events a second`},
		"a ratio of 101":                 {spec("exit: {matchPercent: 101}"), `spec.exit.matchPercent: Invalid value: 101: must be from 0 to 100 percent`},
		"a negative ratio":               {spec("exit: {matchPercent: -1}"), `spec.exit.matchPercent: Invalid value: -1: must be from 0 to 100 percent`},
		"a negative seed":                {spec("seed: -1"), `spec.seed: Invalid value: -1: must not be negative`},
		"a negative number of pods":      {spec("processor: {replicas: -1}"), `spec.processor.replicas: Invalid value: -1: must be from 0 to 1000 pods`},
		"too many generators":            {spec("exit: {replicas: 65}"), `spec.exit.replicas: Invalid value: 65: must be from 0 to 64 pods`},
		"no concurrency":                 {spec("processor: {concurrency: 0}"), `spec.processor.concurrency: Invalid value: 0: must be from 1 to 65535 messages`},
		"no partitions":                  {spec("rabbitmq: {partitions: 0}"), `spec.rabbitmq.partitions: Invalid value: 0: must be from 1 to 64 partitions`},
		"too many partitions":            {spec("rabbitmq: {partitions: 65}"), `spec.rabbitmq.partitions: Invalid value: 65: must be from 1 to 64 partitions`},
		"a duration of nothing":          {spec("duration: 0s"), `spec.duration: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "30m"`},
		"a negative duration":            {spec("duration: -5m"), `spec.duration: Invalid value: "-5m0s": must be a duration above 0s and up to 8760h, such as "30m"`},
		"a duration of years":            {spec("duration: 9000h"), `spec.duration: Invalid value: "9000h0m0s": must be a duration above 0s and up to 8760h, such as "30m"`},
		"no maxStay":                     {spec("exit: {minStay: 0s}, plates: {maxStay: 0s}"), `spec.plates.maxStay: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "1h"; spec.exit.minStay: Invalid value: "0s": must be less than plates.maxStay, which is 0s, else every car would be forgotten before it may leave: lower exit.minStay or raise plates.maxStay`},
		"minStay as long as maxStay":     {spec("exit: {minStay: 60m}"), `spec.exit.minStay: Invalid value: "1h0m0s": must be less than plates.maxStay, which is 1h0m0s, else every car would be forgotten before it may leave: lower exit.minStay or raise plates.maxStay`},
		"more cars than plates":          {spec("entry: {rate: 8789}, plates: {maxStay: 10000s}"), `spec.entry.rate: Invalid value: 8789: times plates.maxStay, 2h46m40s, must not exceed 87880000, the number of plates: lower the rate or plates.maxStay`},
		"a stage with too many cars":     {spec("entry: {stages: [{duration: 1m, rate: 1000000}]}"), `spec.entry.stages[0].rate: Invalid value: 1000000: times plates.maxStay, 1h0m0s, must not exceed 87880000, the number of plates: lower the rate or plates.maxStay`},
		"unknown arrivals":               {spec("entry: {arrivals: Bursty}"), `spec.entry.arrivals: Unsupported value: "Bursty": supported values: "Uniform", "Poisson"`},
		"no stages in stages":            {spec("entry: {stages: []}"), `spec.entry.stages: Invalid value: 0: must have from 1 to 100 items; leave it out for a constant rate`},
		"too many stages":                {spec("entry: {stages: [" + strings.Repeat("{duration: 1s, rate: 1},", 101) + "]}"), `spec.entry.stages: Invalid value: 101: must have from 1 to 100 items; leave it out for a constant rate`},
		"a stage without duration":       {spec("entry: {stages: [{rate: 10}]}"), `spec.entry.stages[0].duration: Required value: say how long the ramp takes, such as "5m"; for a jump take "1ms"`},
		"a stage without rate":           {spec("exit: {stages: [{duration: 5m}]}"), `spec.exit.stages[0].rate: Required value: say how many events a second are reached at the end of the stage`},
		"a stage of no time":             {spec("exit: {stages: [{duration: 0s, rate: 1}]}"), `spec.exit.stages[0].duration: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "5m"`},
		"a stage with a negative rate":   {spec("exit: {stages: [{duration: 1s, rate: -1}]}"), `spec.exit.stages[0].rate: Invalid value: -1: must be from 0 to 1000000 events a second`},
		"an unknown queue type":          {spec("rabbitmq: {queueType: Stream}"), `spec.rabbitmq.queueType: Unsupported value: "Stream": supported values: "Quorum", "Classic"`},
		"an unknown policy":              {spec("deletionPolicy: Orphan"), `spec.deletionPolicy: Unsupported value: "Orphan": supported values: "Delete", "Retain"`},
		"an unknown mode":                {spec("monitoring: {rules: Always}"), `spec.monitoring.rules: Unsupported value: "Always": supported values: "Auto", "Disabled"`},
		"scraping too often":             {spec("monitoring: {interval: 500ms}"), `spec.monitoring.interval: Invalid value: "500ms": must be a duration from 1s to 1h, such as "15s"`},
		"a label that is none":           {spec("monitoring: {labels: {release: 'my prometheus'}}"), `spec.monitoring.labels[release]: Invalid value: "my prometheus": must be a label's value: at most 63 letters, digits, dashes, underscores and dots`},
		"a label's key that is none":     {spec("processor: {template: {metadata: {labels: {'a b': c}}}}"), `spec.processor.template.metadata.labels[a b]: Invalid value: "a b": must be a label's key such as "team" or "example.com/team"`},
		"an annotation's key of nothing": {spec("processor: {template: {metadata: {annotations: {'': c}}}}"), `spec.processor.template.metadata.annotations[]: Invalid value: "": must be an annotation's key such as "team" or "example.com/team"`},
		"an objective of no time":        {spec("objectives: {processingP99: 0s}"), `spec.objectives.processingP99: Invalid value: "0s": must be a duration above 0s and up to 8760h, such as "5ms"`},
		"fewer than no losses":           {spec("objectives: {maxLost: -1}"), `spec.objectives.maxLost: Invalid value: -1: must not be negative; 0 allows none`},
		"two brokers":                    {spec("rabbitmq: {managed: {}, secretRef: {name: a}}"), `spec.rabbitmq: Invalid value: "managed, secretRef": at most one of clusterRef, managed, secretRef may be set: remove the others`},
		"three brokers":                  {spec("rabbitmq: {managed: {}, clusterRef: {name: a}, secretRef: {name: a}}"), `spec.rabbitmq: Invalid value: "clusterRef, managed, secretRef": at most one of clusterRef, managed, secretRef may be set: remove the others`},
		"two stores":                     {spec("redis: {managed: {}, secretRef: {name: a}}"), `spec.redis: Invalid value: "managed, secretRef": at most one of managed, secretRef may be set: remove the others`},
		"two summary APIs":               {spec("summaryAPI: {managed: {}, url: 'https://example.com'}"), `spec.summaryAPI: Invalid value: "managed, url": at most one of managed, url may be set: remove the others`},
		"a Secret for our own API":       {spec("summaryAPI: {secretRef: {name: a}}"), `spec.summaryAPI.secretRef: Forbidden: is for an API of your own: set url, or remove secretRef`},
		"a URL without scheme":           {spec("summaryAPI: {url: example.com}"), `spec.summaryAPI.url: Invalid value: "example.com": must be an absolute http or https URL such as "https://example.com/v1/visits"`},
		"a URL of another scheme":        {spec("summaryAPI: {url: 'ftp://example.com'}"), `spec.summaryAPI.url: Invalid value: "ftp://example.com": must be an absolute http or https URL such as "https://example.com/v1/visits"`},
		"a URL with a password":          {spec("summaryAPI: {url: 'https://user:hunter2@example.com'}"), `spec.summaryAPI.url: Forbidden: must not hold a user name or password: put them into a Secret and name it in secretRef`},
		"a Secret without name":          {spec("rabbitmq: {secretRef: {}}"), `spec.rabbitmq.secretRef.name: Required value: name the Secret`},
		"a Secret with its namespace":    {spec("redis: {secretRef: {name: lot/redis}}"), `spec.redis.secretRef.name: Invalid value: "lot/redis": must be the name of a Secret, in lower case, without its namespace`},
		"a cluster in capitals":          {spec("rabbitmq: {clusterRef: {name: Rabbit}}"), `spec.rabbitmq.clusterRef.name: Invalid value: "Rabbit": must be the name of a RabbitmqCluster, in lower case, without its namespace`},
		"a cluster in no namespace":      {spec("rabbitmq: {clusterRef: {name: rabbit, namespace: a.b}}"), `spec.rabbitmq.clusterRef.namespace: Invalid value: "a.b": must be the name of a namespace, in lower case`},
		"two nodes":                      {spec("rabbitmq: {managed: {replicas: 2}}"), `spec.rabbitmq.managed.replicas: Invalid value: 2: must be 1, 3 or 5, as quorum queues need a majority`},
		"a negative size":                {spec("redis: {managed: {storage: {size: -1Gi}}}"), `spec.redis.managed.storage.size: Invalid value: "-1Gi": must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`},
		"a storage class in capitals":    {spec("redis: {managed: {storage: {storageClassName: SSD}}}"), `spec.redis.managed.storage.storageClassName: Invalid value: "SSD": must be the name of a StorageClass, in lower case`},
		"an image name too long":         {spec("redis: {managed: {image: " + strings.Repeat("x", 513) + "}}"), `spec.redis.managed.image: Too long: may not be more than 512 bytes`},
		"a request beyond its limit":     {spec("entry: {resources: {requests: {cpu: 2}, limits: {cpu: 1}}}"), `spec.entry.resources.requests[cpu]: Invalid value: "2": must not exceed the limit of 1`},
		"a negative limit":               {spec("entry: {resources: {limits: {memory: -1}}}"), `spec.entry.resources.limits[memory]: Invalid value: "-1": must not be negative`},
		"a resource that is none":        {spec("entry: {resources: {limits: {'c p u': 1}}}"), `spec.entry.resources.limits[c p u]: Invalid value: "c p u": must be the name of a resource such as "cpu" or "memory"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := plan.ReadManifest(strings.NewReader(tt.text))
			if err == nil || err.Error() != tt.want {
				t.Errorf("error is\n%v, want\n%s", err, tt.want)
			}
			if sim != nil {
				t.Error("there is a simulation beside an error, want none")
			}
		})
	}
}

func TestReadManifestFileNamesTheFile(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"testdata/missing.yaml": "read manifest: open testdata/missing.yaml: no such file or directory",
		"manifest_test.go":      "manifest manifest_test.go: not valid YAML: ",
	} {
		if _, err := plan.ReadManifestFile(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func FuzzReadManifest(f *testing.F) {
	for _, text := range []string{
		"", "---\n", head, head + "spec: {}\n", head + "---\n" + head, head + "spec:\n  seed: 1\n  seed: 2\n",
		head + "spec: {duration: 30m, entry: {rate: 200, stages: [{duration: 5m, rate: 2000}]}, exit: {minStay: 2s}}\n",
		head + "spec: {rabbitmq: {secretRef: {name: a}}, redis: {managed: {storage: {size: 1Gi}}}, summaryAPI: {url: 'https://a.b'}}\n",
		head + "spec: {processor: {template: {spec: {containers: [{name: parking, env: [{name: A, value: b}]}]}}}}\n",
		head + "spec: {entry: &e {resources: {requests: {cpu: 1}}}, exit: *e}\n",
		`{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"a"},"spec":{"seed":1,"seed":2}}`,
		"apiVersion: [1]\nkind: {a: b}\n", "\xff", "- a\n", "{\n\t\"a\": 1}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sim, err := plan.ReadManifest(strings.NewReader(string(text)))
		if err != nil {
			if strings.Contains(err.Error(), "\n") || err.Error() == "" {
				t.Fatalf("error %q is not one line", err)
			}
			return
		}
		p, err := plan.FromSimulation(sim)
		if err != nil {
			t.Fatalf("a manifest that was read makes no plan: %v", err)
		}
		written, err := p.Marshal()
		if err != nil {
			t.Fatalf("its plan cannot be written: %v", err)
		}
		q, err := plan.Parse(written)
		if err != nil {
			t.Fatalf("its plan cannot be read: %v", err)
		}
		if diff := cmp.Diff(p, q); diff != "" {
			t.Fatalf("its plan read back (-before +after):\n%s", diff)
		}
		plan.Warnings(sim)
	})
}
