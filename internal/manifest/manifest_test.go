package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/manifest/manifesttest"
	"github.com/parking-operator/parking-operator/internal/plan"
)

const (
	head           = manifesttest.Head
	simulationJSON = `{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"a"},"spec":{}}`
)

func TestReadManifest_AcceptsValidManifests(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"no spec":                      head,
		"an empty spec":                head + "spec: {}\n",
		"spec is null":                 head + "spec:\n",
		"comments and empty documents": "# nothing\n---\n# still nothing\n---\n" + head + "---\n",
		"JSON with tabs":               "{\n\t\"apiVersion\": \"simulation.parking.dev/v1alpha1\",\n\t\"kind\": \"ParkingSimulation\",\n\t\"metadata\": {\"name\": \"rush-hour\"}\n}\n",
		"output of kubectl get":        head + "spec: {seed: 1}\nstatus: {replicas: 2, conditions: []}\n",
		"Windows line ends":            strings.ReplaceAll(head+"spec: {seed: 1}\n", "\n", "\r\n"),
		"a template with a directive":  head + "spec: {processor: {template: {spec: {nodeSelector: {disk: ssd}, tolerations: [{$patch: replace}]}}}}\n",
		"rate 2e2":                     head + "spec: {entry: {rate: 2e2}}\n",
		"the longest name":             strings.Replace(head, "rush-hour", strings.Repeat("a", 40), 1),
		"as many vehicles as plates":   head + "spec: {entry: {rate: 8788}, plates: {maxStay: 10000s}}\n",
		"replicas of zero":             head + "spec: {entry: {replicas: 0}, exit: {replicas: 0}, processor: {replicas: 0}}\n",
		"ephemeral storage":            head + "spec: {redis: {managed: {storage: {size: 0}}}}\n",
		"external summary API":         head + "spec: {summaryAPI: {url: 'https://example.com/a@b', secretRef: {name: api}}}\n",
		"whole numbers in JSON":        strings.Replace(simulationJSON, `"spec":{}`, `"spec":{"entry":{"rate":2e2},"exit":{"rate":180.0}}`, 1),
		"a byte order mark":            "\ufeff" + head,
		"a comment after the end":      head + "...\n# nothing\n",
		"aliases":                      head + "spec: {entry: {resources: &r {limits: {cpu: 1}}}, exit: {resources: *r}}\n",
		"file modes":                   head + "spec: {processor: {template: {spec: {volumes: [{name: a, configMap: {name: b, defaultMode: 0644, items: [{key: c, path: d, mode: 0o600}]}}]}}}}\n",
		"decimal numbers":              head + "spec: {entry: {rate: +20, replicas: 0}, exit: {rate: 1.8e2}, processor: {replicas: 2., concurrency: 0.1e2, resources: {limits: {cpu: '010'}}}}\n",
		"request below its limit":      head + "spec: {processor: {resources: {requests: {cpu: 500m}, limits: {cpu: 1}}}}\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := manifest.Read(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if sim.Spec.Seed == nil || *sim.Spec.Seed != 1 {
				t.Errorf("seed is %v, want the default, 1", sim.Spec.Seed)
			}
		})
	}
}

// unknownField is the format of the error about an unknown field of spec.entry.
const unknownField = "spec.entry.unknown%02d: Forbidden: unknown field: remove it; known fields are arrivals, rate, replicas, resources, stages, template\n"

// lines formats each number from 0 to n-1 and concatenates the results.
func lines(format string, n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, format, i)
	}
	return text.String()
}

func TestReadManifest_RejectsInvalidManifests(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"an empty file":                     {"", `the manifest is empty: set apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation and metadata.name`},
		"only comments":                     {"# nothing\n---\n# here\n", `the manifest is empty: set apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation and metadata.name`},
		"two simulations":                   {head + "---\n" + head, `there is more than one document: leave one ParkingSimulation in the file`},
		"more than 1 MiB":                   {head + strings.Repeat("#", 1<<20), `the manifest is larger than 1 MiB`},
		"a list":                            {"- a\n- b\n", `must be an object with fields, not a list: set apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation and metadata.name`},
		"a word":                            {"parking\n", `must be an object with fields, not a text: set apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation and metadata.name`},
		"malformed YAML":                    {head + "spec: {entry: \n", `not valid YAML: line 4: did not find expected node content`},
		"a tab for indentation":             {head + "spec:\n\tseed: 1\n", `not valid YAML: line 5 is indented with a tab: use spaces`},
		"a key twice":                       {head + "spec:\n  seed: 1\n  seed: 2\n", `not valid YAML: line 6: key "seed" already set in map`},
		"a key twice in a template in JSON": {`{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"a"},"spec":{"processor":{"template":{"spec":{"tolerations":[{"key":"a","key":"b"}]}}}}}`, `spec.processor.template.spec.tolerations[0].key: Forbidden: duplicate field: give each field once`},
		"a key twice in JSON":               {`{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"a"},"spec":{"seed":1,"seed":2}}`, `spec.seed: Forbidden: duplicate field: give each field once`},
		"exponential aliases":               {head + "spec: {a: &a [x,x,x,x,x,x,x,x,x], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e], g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]}\n", `not valid YAML: document contains excessive aliasing`},
		"an unknown alias":                  {head + "spec: *missing\n", `not valid YAML: a value begins with *, but is not the name of an anchor: put the value in quotes`},
		"invalid UTF-8":                     {head + "spec: {deletionPolicy: \"\xff\"}\n", `not valid YAML: invalid leading UTF-8 octet`},
		"no apiVersion":                     {"kind: ParkingSimulation\n", `apiVersion: Required value: must be simulation.parking.dev/v1alpha1`},
		"another version":                   {strings.Replace(head, "v1alpha1", "v1", 1), `apiVersion: Invalid value: "simulation.parking.dev/v1": must be simulation.parking.dev/v1alpha1`},
		"another kind":                      {strings.Replace(head, "kind: ParkingSimulation", "kind: Deployment", 1), `kind: Invalid value: "Deployment": must be ParkingSimulation`},
		"a kind that is a list":             {strings.Replace(head, "kind: ParkingSimulation", "kind: [a]", 1), `kind: Invalid value: […]: must be ParkingSimulation`},
		"no name":                           {strings.Replace(head, "{name: rush-hour}", "{}", 1), `metadata.name: Required value: give the simulation a name`},
		"a name with dots":                  {strings.Replace(head, "rush-hour", "rush.hour", 1), `metadata.name: Invalid value: "rush.hour": must have at most 40 characters of a-z, 0-9 and '-', start with a letter and not end with '-'`},
		"a name too long":                   {strings.Replace(head, "rush-hour", strings.Repeat("a", 41), 1), `metadata.name: Invalid value: "` + strings.Repeat("a", 41) + `": must have at most 40 characters of a-z, 0-9 and '-', start with a letter and not end with '-'`},
		"a namespace in capitals":           {strings.Replace(head, "{name: rush-hour}", "{name: a, namespace: Lot}", 1), `metadata.namespace: Invalid value: "Lot": must be the name of a namespace: at most 63 characters of a-z, 0-9 and '-', such as "my-namespace"`},
		"label that is a number":            {strings.Replace(head, "{name: rush-hour}", "{name: a, labels: {a: 1}}", 1), `metadata.labels[a]: Invalid value: 1: must be a string: write "1"`},
		"a tab after spaces":                {head + "spec:\n  entry:\n  \trate: 5\n", `not valid YAML: line 6 is indented with a tab: use spaces`},
		"a template expression":             {head + "spec:\n  duration: {{ .Values.duration }}\n", `not valid YAML: a key must be a string; line 5 has the template expression {{ }}: render the manifest first, for example with "helm template" or "envsubst"`},
		"a variable as a whole value":       {head + "spec: {duration: $DURATION}\n", `spec.duration: Invalid value: "$DURATION": must be a duration above 0s and up to 8760h, such as "30m"; line 4 has the template expression $…: render the manifest first, for example with "helm template" or "envsubst"`},
		"a variable in parentheses":         {head + "spec:\n  duration: \"$(DURATION)\"\n", `spec.duration: Invalid value: "$(DURATION)": must be a duration above 0s and up to 8760h, such as "30m"; line 5 has the template expression $(…): render the manifest first, for example with "helm template" or "envsubst"`},
		"a dollar sign in a value":          {head + "spec: {seed: -1, processor: {template: {spec: {containers: [{name: parking, args: [$(A)-b, x$y]}], tolerations: [{$patch: replace}]}}}}\n", `spec.seed: Invalid value: -1: must not be negative`},
		"no space before an object":         {head + "spec:\n  entry:{rate: 5}\n", `spec.entry:{rate: Forbidden: unknown field: remove it; known fields are deletionPolicy, drainTimeout, duration, entry, exit, faults, monitoring, objectives, plates, processor, rabbitmq, redis, seed, summaryAPI, suspend; line 5 has no space after "entry:": write a space before the value`},
		"no space before a value":           {head + "spec:\n  duration:30m\n", `spec: Invalid value: "duration:30m": must be an object such as {duration: 30m}; line 5 has no space after "duration:": write a space before the value`},
		"no space in a list":                {head + "spec:\n  faults:\n  - name:a\n    target: Redis\n", `not valid YAML: line 7: mapping values are not allowed in this context; line 6 has no space after "name:": write a space before the value`},
		"a colon in a value":                {head + "spec: {seed: -1, redis: {managed: {image: name:8}}}\n", `spec.seed: Invalid value: -1: must not be negative`},
		"a key that is null":                {head + "spec: {processor: {template: {metadata: {labels: {~: hunter2}}}}}\n", `not valid YAML: a key must be a string`},
		"an infinite rate":                  {head + "spec: {entry: {rate: .inf}}\n", `spec.entry.rate: Invalid value: .inf: must be a finite number, such as 10`},
		"a rate that is not a number":       {head + "spec: {entry: {stages: [{duration: 1s, rate: .NaN}]}}\n", `spec.entry.stages[0].rate: Invalid value: .NaN: must be a finite number, such as 10`},
		"a template statement":              {"{{- if .Values.on }}\n" + head, `not valid YAML: did not find expected node content; line 1 has the template expression {{ }}: render the manifest first, for example with "helm template" or "envsubst"`},
		"an apiVersion with a space":        {strings.Replace(head, "simulation.parking.dev/v1alpha1", `"simulation.parking.dev/v1alpha1 "`, 1), `apiVersion: Invalid value: "simulation.parking.dev/v1alpha1 ": must be simulation.parking.dev/v1alpha1 (remove the white space around the value)`},
		"a List":                            {"apiVersion: v1\nkind: List\nitems: []\n", `kind: Invalid value: "List": must be ParkingSimulation: write each of the items into a separate file`},
		"a ParkingSimulationList":           {"apiVersion: simulation.parking.dev/v1alpha1\nkind: ParkingSimulationList\nitems: []\n", `kind: Invalid value: "ParkingSimulationList": must be ParkingSimulation: write each of the items into a separate file`},
		"generateName":                      {strings.Replace(head, "{name: rush-hour}", "{generateName: rush-}", 1), `metadata.name: Required value: give the simulation a name: generateName needs an API server`},
		"generateName together with a name": {strings.Replace(head, "{name: rush-hour}", "{name: a, generateName: B_}", 1), `metadata.generateName: Invalid value: "B_": must be the beginning of a name: at most 253 characters of a-z, 0-9, '-' and '.', such as "rush-hour-"`},
		"annotations of over 256 KiB":       {strings.Replace(head, "{name: rush-hour}", "{name: a, annotations: {a: "+strings.Repeat("ä", 1<<16)+", b: "+strings.Repeat("ä", 1<<16)+"}}", 1), `metadata.annotations: Too long: may not be more than 262144 bytes`},
		"a name with a space":               {strings.Replace(head, "rush-hour", `"rush-hour "`, 1), `metadata.name: Invalid value: "rush-hour ": must have at most 40 characters of a-z, 0-9 and '-', start with a letter and not end with '-' (remove the white space around the value)`},
		"a key that is an object":           {head + "spec: {? {password: hunter2} : 1}\n", `not valid YAML: a key must be a string`},
		"a spec after the object":           {"{apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation, metadata: {name: a}}\nspec: {entry: {rate: 5000}}\n", `not valid YAML: there is text after the end of the document: leave one ParkingSimulation in the file`},
		"a spec after the end":              {head + "...\nspec: {entry: {raet: 3}}\n", `not valid YAML: there is text after the end of the document: leave one ParkingSimulation in the file`},
		"rubbish after the object":          {"{apiVersion: simulation.parking.dev/v1alpha1, kind: ParkingSimulation, metadata: {name: a}}\n}}}} rubbish\n", `not valid YAML: there is text after the end of the document: leave one ParkingSimulation in the file`},
		"two objects in JSON":               {simulationJSON + `{"kind":"Secret"}`, `not valid YAML: there is text after the end of the document: leave one ParkingSimulation in the file`},
		"a stream of JSON":                  {simulationJSON + "\n" + simulationJSON, `not valid YAML: there is text after the end of the document: leave one ParkingSimulation in the file`},
		"a brace too many":                  {simulationJSON + "}\n", `not valid YAML: there is text after the end of the document: leave one ParkingSimulation in the file`},
		"a password after ---":              {`--- {apiVersion: v1, spec: {redis: {managed: {image: "u:hunter2@h/r"}}}}`, `not valid YAML: line 1 has text after ---: begin the document on the next line, or indent the line if it is part of a multi-line value`},
		"a certificate not indented":        {head + "spec: |\n-----BEGIN CERTIFICATE-----\nhunter2\n", `not valid YAML: line 5 has text after ---: begin the document on the next line, or indent the line if it is part of a multi-line value`},
		"a password that starts with a *":   {head + "spec: {processor: {template: {spec: {containers: [{name: parking, env: [{name: P, value: *hunter2}]}]}}}}\n", `not valid YAML: a value begins with *, but is not the name of an anchor: put the value in quotes`},
		"a password as a key, twice":        {head + "spec:\n  \"amqp://u:hunter2@h\": a\n  \"amqp://u:hunter2@h\": a\n", `not valid YAML: line 6: a key is already set in the same object`},
		"a password with the tag !!binary":  {head + "spec: {entry: {rate: !!binary aHVudGVyMg==}}\n", `the manifest is invalid. The errors are not shown, because a value with the tag !!binary may be a password: write the value as text`},
		"a password with the tag !!int":     {head + "spec: {entry: {rate: !!int hunter2}}\n", `not valid YAML: a value does not have the type of its tag: put the value in quotes, without a tag`},
		"an anchor in itself":               {head + "spec: &hunter2 [*hunter2]\n", `not valid YAML: an anchor contains itself`},
		"a tab after a license header":      {"# a\n# b\n# c\n---\n" + head + "spec:\n\tseed: 1\n", `not valid YAML: line 9 is indented with a tab: use spaces`},
		"an error after a license header":   {"# a\n# b\n# c\n---\n" + head + "spec:\n  seed: 1\n  seed: 2\n", `not valid YAML: line 10: key "seed" already set in map`},
		"UTF-16":                            {"\xff\xfea\x00", `the manifest is encoded as UTF-16: save it as UTF-8`},
		"a label that YAML shortens":        {strings.Replace(head, "{name: rush-hour}", "{name: a, labels: {version: 1.10}}", 1), `metadata.labels[version]: Invalid value: 1.10: must be a string: write "1.10"`},
		"a label that is octal":             {strings.Replace(head, "{name: rush-hour}", "{name: a, labels: {a/b: 010}}", 1), `metadata.labels[a/b]: Invalid value: 010: must be a string: write "010"`},
		"a label that is hexadecimal":       {strings.Replace(head, "{name: rush-hour}", "{name: a, labels: {a: 0x1F}}", 1), `metadata.labels[a]: Invalid value: 0x1F: must be a string: write "0x1F"`},
		"a label with an exponent":          {strings.Replace(head, "{name: rush-hour}", "{name: a, labels: {a: 1e3}}", 1), `metadata.labels[a]: Invalid value: 1e3: must be a string: write "1e3"`},
		"a label in an alias":               {strings.Replace(head, "{name: rush-hour}", "{name: a, annotations: &a {b: 1e3}, labels: *a}", 1), `metadata.annotations[b]: Invalid value: must be a string: put it in quotes; metadata.labels[b]: Invalid value: 1e3: must be a string: write "1e3"`},
		"a name that is true in YAML":       {strings.Replace(head, "rush-hour", "on", 1), `metadata.name: Invalid value: on: must be a string: write "on"`},
		"a policy that is false in YAML":    {head + "spec: {deletionPolicy: no}\n", `spec.deletionPolicy: Invalid value: no: must be one of "Delete", "Retain"`},
		"a duration with underscores":       {head + "spec: {duration: 1_000}\n", `spec.duration: Invalid value: 1_000: must be a duration such as "30s" or "1h30m": write "1000s"`},
		"too high a rate with underscores":  {head + "spec: {entry: {rate: 2_000_000}}\n", `spec.entry.rate: Invalid value: 2_000_000: must be from 0 to 1000000 events per second`},
		"an octal rate":                     {head + "spec: {entry: {rate: 0200}}\n", `spec.entry.rate: Invalid value: 0200: must be a decimal number: YAML reads it as 128: write 128 or 200`},
		"a rate with a leading 0":           {head + "spec: {entry: {rate: 08}}\n", `spec.entry.rate: Invalid value: 08: must be a decimal number: YAML reads it as 8: write 8`},
		"an octal rate with the prefix 0o":  {head + "spec: {entry: {rate: 0o200}}\n", `spec.entry.rate: Invalid value: 0o200: must be a decimal number: YAML reads it as 128: write 128`},
		"a hexadecimal rate":                {head + "spec: {entry: {rate: +0x10}}\n", `spec.entry.rate: Invalid value: +0x10: must be a decimal number: YAML reads it as 16: write 16`},
		"a binary rate":                     {head + "spec: {entry: {rate: !!int 0b11}}\n", `spec.entry.rate: Invalid value: 0b11: must be a decimal number: YAML reads it as 3: write 3`},
		"a rate with an underscore":         {head + "spec: {entry: {rate: 1_000}}\n", `spec.entry.rate: Invalid value: 1_000: must be a decimal number: YAML reads it as 1000: write 1000`},
		"a rate that looks like a time":     {head + "spec: {entry: {rate: 12:30}}\n", `spec.entry.rate: Invalid value: "12:30": must be a whole number such as 10, of at most 32 bits`},
		"octal quantities":                  {head + "spec: {entry: &e {resources: {limits: {memory: 01_000_000_000, cpu: 010}}}, exit: *e}\n", `spec.entry.resources.limits[memory]: Invalid value: 01_000_000_000: must be a decimal number: YAML reads it as 134217728: write 134217728; spec.entry.resources.limits[cpu]: Invalid value: 010: must be a decimal number: YAML reads it as 8: write 8 or 10`},
		"an octal duration":                 {head + "spec: {duration: 0200}\n", `spec.duration: Invalid value: 0200: must be a duration such as "30s" or "1h30m"`},
		"a duration of 202 digits":          {head + "spec: {duration: " + strings.Repeat("0", 200) + "30m}\n", `spec.duration: Invalid value: "` + strings.Repeat("0", 64) + `…": must be a duration above 0s and up to 8760h, such as "30m"`},
		"an octal port":                     {head + "spec: {processor: {template: {spec: {containers: [{name: parking, ports: [{containerPort: 010}]}]}}}}\n", `spec.processor.template.spec.containers[0].ports[0].containerPort: Invalid value: 010: must be a decimal number: YAML reads it as 8: write 8 or 10`},
		"a hexadecimal quantity":            {head + "spec: {redis: {managed: {storage: {size: -0x10}}}}\n", `spec.redis.managed.storage.size: Invalid value: -0x10: must be a quantity of bytes such as "2Gi", or "0" for ephemeral storage`},
		"a Unicode minus sign":              {head + "spec: {seed: \u22121}\n", "spec.seed: Invalid value: \"\u22121\": must be a whole number such as 10, of at most 64 bits; line 4 has the dash \u2212: write a hyphen (-)"},
		"a dash of a word processor":        {head + "\u2013 a: 1\n", "…: Forbidden: unknown field: remove it; known fields are apiVersion, kind, metadata, spec, status; line 4 has the dash \u2013: write a hyphen (-)"},
		"a percentage for maxLost":          {head + "spec: {objectives: {maxLost: 1%}}\n", `spec.objectives.maxLost: Invalid value: "1%": must be a whole number such as 10, of at most 64 bits`},
		"a file mode in quotes":             {head + "spec: {processor: {template: {spec: {volumes: [{name: a, secret: {secretName: b, defaultMode: '0400'}}]}}}}\n", `spec.processor.template.spec.volumes[0].secret.defaultMode: Invalid value: must be a whole number such as 10, of at most 32 bits`},
		"a merge conflict":                  {head + "spec:\n<<<<<<< HEAD\n  seed: 1\n=======\n  seed: 2\n>>>>>>> branch\n", `not valid YAML: line 5 is a marker of a merge conflict: resolve the conflict, and remove the marker`},
		"the directive %YAML":               {"%YAML 1.2\n---\n" + head, `not valid YAML: line 1 is a YAML directive, which is not supported: remove it`},
		"the directive %TAG":                {"# a\n---\n%TAG ! tag:example.com,2026:\n" + head, `not valid YAML: line 3 is a YAML directive, which is not supported: remove it`},
		"an invisible character":            {head + "spec:\n\u00a0 seed: 1\n", "\u00a0 seed: Forbidden: unknown field: remove it; known fields are apiVersion, kind, metadata, spec, status; line 5 has the invisible character U+00A0: remove it, or write a space"},
		"a typographic quotation mark":      {head + "spec: {duration: “30m”} # don’t\n", `spec.duration: Invalid value: "“30m”": must be a duration above 0s and up to 8760h, such as "30m"` + "; line 4 has the typographic quotation mark “: write \" or '"},
		"a comment in JSON":                 {"{ // a comment\n \"apiVersion\": \"v1\"}", "not valid YAML: line 1: did not find expected ',' or '}'; line 1 has a comment, which JSON does not allow: remove it"},
		"an exponent in JSON":               {strings.Replace(simulationJSON, `"spec":{}`, `"spec":{"seed":1.5e0,"entry":{"rate":2.5}}`, 1), `spec.entry.rate: Invalid value: 2.5: must be a whole number such as 10, of at most 32 bits; spec.seed: Invalid value: 1.5e0: must be a whole number such as 10, of at most 64 bits`},
		"an unknown field in status":        {head + "status: {replica: 1}\n", `status.replica: Forbidden: unknown field: did you mean "replicas"?`},
		"a variable with a default":         {head + "spec: {duration: '${D:-hunter2@h}'}\n", `spec.duration: Invalid value: must be a duration above 0s and up to 8760h, such as "30m"; line 4 has the template expression ${D}: render the manifest first, for example with "helm template" or "envsubst"`},
		"an ERB template":                   {head + "spec: {duration: <%= d %>}\n", `spec.duration: Invalid value: must be a duration above 0s and up to 8760h, such as "30m"; line 4 has the template expression <% %>: render the manifest first, for example with "helm template" or "envsubst"`},
		"21 unknown fields":                 {head + "spec:\n  entry:\n" + lines("    unknown%02d: 1\n", 21), strings.Join(strings.Split(strings.TrimSuffix(lines(unknownField, 20), "\n"), "\n"), "; ") + "; and 1 more"},
		"misspelled spec":                   {head + "sepc: {}\n", `sepc: Forbidden: unknown field: did you mean "spec"?`},
		"a spec that is a list":             {head + "spec: []\n", `spec: Invalid value: []: must be an object such as {duration: 30m}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := manifest.Read(strings.NewReader(tt.text))
			if err == nil || err.Error() != tt.want {
				t.Errorf("error is\n%v, want\n%s", err, tt.want)
			}
			if sim != nil {
				t.Error("Read returns a simulation and an error, want no simulation")
			}
		})
	}
}

func TestReadManifest_RejectsInvalidSpecs(t *testing.T) {
	t.Parallel()
	for _, faulty := range manifesttest.FaultyManifests() {
		t.Run(faulty.Name, func(t *testing.T) {
			t.Parallel()
			if _, err := manifest.Read(strings.NewReader(faulty.Manifest())); err == nil || err.Error() != faulty.Error {
				t.Errorf("error is\n%v, want\n%s", err, faulty.Error)
			}
		})
	}
}

func TestReadManifestFile_ErrorsNameTheFile(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"testdata/missing.yaml": "read manifest: open testdata/missing.yaml: no such file or directory",
		"a.yaml,b.yaml":         "read manifest: open a.yaml,b.yaml: no such file or directory: give one file, not a list or a pattern",
		".":                     `read manifest: "." is a directory: give one file, such as "simulation.yaml"`,
		"https://user:hunter2@example.com/a.yaml": "read manifest: URLs are not supported: download the manifest and pass the file, or pass \"-\" to read standard input",
		"manifest_test.go":                        "manifest manifest_test.go: not valid YAML: ",
	} {
		if _, err := manifest.ReadFile(path); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
}

func FuzzRead_AcceptedManifest_ResolvesAndItsPlanRoundTrips(f *testing.F) {
	for _, text := range []string{
		"", "---\n", head, head + "spec: {}\n", head + "---\n" + head, head + "spec:\n  seed: 1\n  seed: 2\n",
		head + "spec: {duration: 30m, entry: {rate: 200, stages: [{duration: 5m, rate: 2000}]}, exit: {minStay: 2s}}\n",
		head + "spec: {rabbitmq: {secretRef: {name: a}}, redis: {managed: {storage: {size: 1Gi}}}, summaryAPI: {url: 'https://a.b'}}\n",
		head + "spec: {processor: {template: {spec: {containers: [{name: parking, env: [{name: A, value: b}]}]}}}}\n",
		head + "spec: {entry: &e {resources: {requests: {cpu: 1}}}, exit: *e}\n",
		`{"apiVersion":"simulation.parking.dev/v1alpha1","kind":"ParkingSimulation","metadata":{"name":"a"},"spec":{"seed":1,"seed":2}}`,
		"apiVersion: [1]\nkind: {a: b}\n", "\xff", "- a\n", "\n0\n", "{\n\t\"a\": 1}",
	} {
		f.Add([]byte(text))
	}
	for _, faulty := range manifesttest.FaultyManifests() {
		f.Add([]byte(faulty.Manifest()))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		sim, err := manifest.Read(strings.NewReader(string(text)))
		if err != nil {
			if strings.Contains(err.Error(), "\n") || err.Error() == "" {
				t.Fatalf("error %q is not one line", err)
			}
			return
		}
		resolved, faults := manifest.Resolve(sim)
		if err := faults.Err(); err != nil {
			t.Fatalf("Resolve rejects a manifest that Read accepts: %v", err)
		}
		p := resolved.Plan
		written, err := p.Marshal()
		if err != nil {
			t.Fatalf("marshal the plan: %v", err)
		}
		q, err := plan.Parse(written)
		if err != nil {
			t.Fatalf("parse the marshalled plan: %v", err)
		}
		if diff := cmp.Diff(p, q); diff != "" {
			t.Fatalf("the plan changes when it is marshalled and parsed (-before +after):\n%s", diff)
		}
	})
}
