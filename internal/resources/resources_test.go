package resources_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/certificates"
	"github.com/parking-operator/parking-operator/internal/goldentest"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// Secret values of the simulations in the tests. The tests check that only Secrets contain these values.
const (
	brokerPassword = "bRoKeRpAsSwOrD0123456789"
	erlangCookie   = "eRlAnGcOoKiE0123456789"
	redisPassword  = "rEdIsPaSsWoRd0123456789"
	agentToken     = "aGeNtToKeN0123456789"
	agentKey       = "aGeNtKeY0123456789"
	tlsKey         = "tLsKeY0123456789"
)

// testInput is an Input whose simulation a test can edit before its plan is derived.
type testInput struct {
	resources.Input
	Simulation *v1alpha1.ParkingSimulation
}

func (in testInput) build() ([]client.Object, error) {
	resolved, faults := manifest.Resolve(in.Simulation)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	in.Resolved = resolved
	return resources.Build(in.Input)
}

// input returns a testInput for a simulation. The argument spec is the content of the spec as a YAML flow mapping,
// without its braces.
func input(t testing.TB, name, spec string) testInput {
	t.Helper()
	sim := &v1alpha1.ParkingSimulation{}
	text := "metadata: {name: " + name + ", namespace: lot, uid: 0a0a0a0a-1b1b-2c2c-3d3d-4e4e4e4e4e4e}\nspec: {" + spec + "}\n"
	if err := yaml.UnmarshalStrict([]byte(text), sim); err != nil {
		t.Fatal(err)
	}
	sim.Default()
	start := metav1.NewTime(time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC))
	return testInput{Simulation: sim, Input: resources.Input{
		Images: resources.Images{
			Parking: "registry.example.com/parking:v1", RabbitMQ: "rabbitmq:4", Redis: "redis:8", RedisExporter: "redis-exporter:v1",
			PullPolicy: corev1.PullIfNotPresent, PullSecrets: []string{"registry"},
		},
		Credentials: resources.Credentials{
			BrokerPassword: brokerPassword, ErlangCookie: erlangCookie, RedisPassword: redisPassword,
		},
		StartTime:         &start,
		Served:            resources.Served{ServiceMonitors: true, PrometheusRules: true},
		OperatorNamespace: "parking-system",
	}}
}

func build(t testing.TB, in testInput) []client.Object {
	t.Helper()
	objects, err := in.build()
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// find returns the object with the given type and name. It fails the test if no object matches.
func find[O client.Object](t testing.TB, objects []client.Object, name string) O {
	t.Helper()
	for _, object := range objects {
		if found, ok := object.(O); ok && found.GetName() == name {
			return found
		}
	}
	var none O
	t.Fatalf("no %T is named %s among %v", none, name, keys(t, objects))
	return none
}

// keys lists the kind and the name of each object.
func keys(t rapid.TB, objects []client.Object) []string {
	t.Helper()
	list := make([]string, len(objects))
	for i, object := range objects {
		list[i] = kind(t, object) + " " + object.GetName()
	}
	return list
}

func kind(t rapid.TB, object client.Object) string { return groupVersionKind(t, object).Kind }

func groupVersionKind(t rapid.TB, object client.Object) schema.GroupVersionKind {
	t.Helper()
	k, err := apiutil.GVKForObject(object, clientgoscheme.Scheme)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func simulations(t testing.TB) map[string]testInput {
	managed := input(t, "managed", `duration: 30m,
		rabbitmq: {managed: {replicas: 3, storage: {size: 4Gi, storageClassName: fast}, template: {metadata: {annotations: {note: hello}},
		  spec: {nodeSelector: {disk: ssd}, priorityClassName: high, containers: [{name: sidecar, image: "sidecar:v1"}]}}}, partitions: 2},
		redis: {managed: {template: {metadata: {labels: {team: parking}},
		  spec: {nodeSelector: {disk: nvme}, priorityClassName: high, containers: [{name: redis, env: [{name: TZ, value: UTC}]}, {name: sidecar, image: "sidecar:v1"}]}}}},
		objectives: {processingP99: 5ms, endToEndP99: 1s}, monitoring: {labels: {release: prometheus}, interval: 1500ms},
		processor: {template: {metadata: {labels: {team: parking}, annotations: {note: hello}},
		  spec: {nodeSelector: {disk: ssd}, containers: [{name: parking, env: [{name: TZ, value: UTC}]}, {name: sidecar, image: "sidecar:v1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}}`)
	external := input(t, "external", `rabbitmq: {secretRef: {name: broker}, queueType: Classic}, redis: {secretRef: {name: store}, durability: Synced},
		summaryAPI: {url: "https://visits.example.com/v1/visits", secretRef: {name: visits-api}}, processor: {replicas: 1}`)
	external.Credentials = resources.Credentials{}
	external.Served = resources.Served{}
	cluster := input(t, "cluster", `suspend: true, rabbitmq: {clusterRef: {name: rabbit, namespace: messaging}}, redis: {managed: {storage: {size: "0"}, resources: {limits: {memory: 1Gi}}}},
		summaryAPI: {managed: {storage: {size: "0"}}}, monitoring: {serviceMonitors: Disabled, rules: Disabled, dashboards: Disabled}`)
	cluster.StartTime = nil
	cluster.Images.RedisExporter = ""
	cluster.Images.PullPolicy, cluster.Images.PullSecrets = "", nil
	cluster.OperatorNamespace = ""
	cluster.BrokerAddress = map[string][]byte{
		"type": []byte("rabbitmq"), "host": []byte("rabbit.messaging.svc"), "port": []byte("5672"),
		"username": []byte("default_user"), "password": []byte(brokerPassword),
	}
	faults := input(t, "faults", `duration: 10m, faults: [{name: redis-crash, target: Redis, action: Kill, at: 2m}, {name: freeze, target: Processor, action: Pause, at: 3m, for: 10s},
		{name: drain, target: RabbitMQ, action: Evict, at: 4m}]`)
	faults.Credentials.Agent = resources.AgentCredentials{Token: agentToken, Certificate: "the certificate", PrivateKey: agentKey}
	database := input(t, "database", `duration: 10m, summaryAPI: {managed: {replicas: 3, database: {secretRef: {name: summaries-app}},
		template: {spec: {nodeSelector: {disk: ssd}}}}}, faults: [{name: summaries-crash, target: SummaryAPI, action: Kill, at: 2m}, {name: cut, target: SummaryAPI, action: Isolate, at: 3m, for: 10s}],
		monitoring: {rules: Disabled, dashboards: Disabled}`)
	database.Credentials.Agent = faults.Credentials.Agent
	encrypted := input(t, "tls", `rabbitmq: {managed: {replicas: 3, tls: {}}}, redis: {managed: {tls: {secretName: store-tls}}},
		summaryAPI: {managed: {tls: {}}}, monitoring: {rules: Disabled, dashboards: Disabled, tls: {}}`)
	encrypted.Credentials.Authority = certificates.Authority{Pair: certificates.Pair{Certificate: []byte("CA"), Key: []byte(tlsKey)}, Trusted: []byte("CAs")}
	encrypted.Credentials.Certificates = map[string]resources.CertificateData{
		"tls-rabbitmq-tls":   {Pair: certificates.Pair{Certificate: []byte("certificate"), Key: []byte(tlsKey)}, CA: []byte("CAs")},
		"tls-rabbitmq-nodes": {Pair: certificates.Pair{Certificate: []byte("certificate of the nodes"), Key: []byte(tlsKey)}, CA: []byte("CAs")},
		"tls-summaries-tls":  {Pair: certificates.Pair{Certificate: []byte("certificate"), Key: []byte(tlsKey)}, CA: []byte("CAs")},
		"store-tls":          {CA: []byte("CA of the user")},
	}
	for _, c := range []string{"entry", "exit", "processor"} {
		encrypted.Credentials.Certificates["tls-"+c+"-tls"] = encrypted.Credentials.Certificates["tls-summaries-tls"]
	}
	return map[string]testInput{
		"database": database, "faults": faults, "managed": managed, "external": external, "cluster": cluster, "tls": encrypted,
	}
}

func TestBuild_MatchesGoldenFiles(t *testing.T) {
	t.Parallel()
	for name, in := range simulations(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := build(t, in)
			golden := map[string][]byte{"order.txt": []byte(strings.Join(keys(t, objects), "\n") + "\n")}
			for _, object := range objects {
				golden[goldenName(t, object)] = yamlOf(t, object)
			}
			compareGolden(t, name, golden)
		})
	}
}

// goldenName returns the name of an object's golden file, which consists of the kind and the name without the
// simulation's name.
func goldenName(t *testing.T, object client.Object) string {
	_, suffix, _ := strings.Cut(object.GetName(), "-")
	return strings.ToLower(kind(t, object)) + "-" + suffix + ".yaml"
}

// yamlOf returns the object as YAML, without its status.
func yamlOf(t rapid.TB, object client.Object) []byte {
	t.Helper()
	text, err := yaml.Marshal(asMap(t, object))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func asMap(t rapid.TB, object client.Object) map[string]any {
	t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	(&unstructured.Unstructured{Object: content}).SetGroupVersionKind(groupVersionKind(t, object))
	delete(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	return content
}

// compareGolden compares the texts of files with the golden files in a directory below testdata. This directory must
// contain no other files.
func compareGolden(t *testing.T, directory string, texts map[string][]byte) {
	t.Helper()
	path := filepath.Join("testdata", directory)
	if goldentest.Updating() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range texts {
		goldentest.Compare(t, filepath.Join(directory, name), got)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := texts[entry.Name()]; !ok {
			t.Errorf("%s/%s belongs to no object; run the tests with -update to remove it", path, entry.Name())
		}
	}
}

func TestBuild_IsDeterministic(t *testing.T) {
	t.Parallel()
	for name, in := range simulations(t) {
		before := in.Simulation.DeepCopy()
		first, second := build(t, in), build(t, in)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("%s: two builds differ:\n%s", name, diff)
		}
		if diff := cmp.Diff(before, in.Simulation); diff != "" {
			t.Errorf("%s: Build modified the simulation:\n%s", name, diff)
		}
	}
}

func TestBuild_OnlySecretsContainPasswords(t *testing.T) {
	t.Parallel()
	for name, in := range simulations(t) {
		for _, object := range build(t, in) {
			if _, ok := object.(*corev1.Secret); ok {
				continue
			}
			text := yamlOf(t, object)
			for _, password := range []string{brokerPassword, erlangCookie, redisPassword, agentToken, agentKey, tlsKey} {
				if bytes.Contains(text, []byte(password)) {
					t.Errorf("%s: %T %s contains a password", name, object, object.GetName())
				}
			}
		}
	}
}

func TestBuild_LivePage_IsServedOnTheLoopbackInterfaceOnly(t *testing.T) {
	t.Parallel()
	for name, in := range simulations(t) {
		objects := build(t, in)
		processor := find[*appsv1.Deployment](t, objects, resources.Name(in.Simulation, resources.ComponentProcessor))
		container := processor.Spec.Template.Spec.Containers[0]
		at := slices.IndexFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == resources.PortPage })
		if at < 0 || !slices.Contains(container.Args, fmt.Sprintf("--page=127.0.0.1:%d", container.Ports[at].ContainerPort)) {
			t.Errorf("%s: the processor has the arguments %q and the ports %v", name, container.Args, container.Ports)
			continue
		}
		number := strconv.Itoa(int(container.Ports[at].ContainerPort))
		for _, object := range objects {
			switch object.(type) {
			case *networkingv1.NetworkPolicy, *corev1.Service:
				if bytes.Contains(yamlOf(t, object), []byte(number)) {
					t.Errorf("%s: %T %s has the port of the live page", name, object, object.GetName())
				}
			}
		}
	}
}

func TestBuild_EveryObject_HasOwnerAndLabels(t *testing.T) {
	t.Parallel()
	for name, in := range simulations(t) {
		for _, object := range build(t, in) {
			if !metav1.IsControlledBy(object, in.Simulation) || object.GetNamespace() != in.Simulation.Namespace ||
				object.GetLabels()[resources.SimulationLabel] != in.Simulation.Name {
				t.Errorf("%s: %T %s has owner %v, namespace %s and labels %v", name, object, object.GetName(),
					object.GetOwnerReferences(), object.GetNamespace(), object.GetLabels())
			}
		}
	}
}

func TestReadCredentials_ReadsSecretsThatBuildReturns(t *testing.T) {
	t.Parallel()
	in := input(t, "managed", "")
	objects := build(t, in)
	got := resources.ReadCredentials(
		find[*corev1.Secret](t, objects, "managed-rabbitmq").Data, find[*corev1.Secret](t, objects, "managed-redis").Data)
	stored := cmpopts.IgnoreUnexported(certificates.Authority{}) // unexported fields are not stored in Secrets
	if diff := cmp.Diff(in.Credentials, got, stored); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
	if got := resources.ReadCredentials(nil, nil); !cmp.Equal(got, resources.Credentials{}, stored) {
		t.Errorf("without Secrets the credentials are %v, want empty ones", got)
	}
}

// Without the key ca.crt, clients would connect without TLS and send the password. So Build sets the key to an invalid
// certificate while the CA is unknown.
func TestBuild_TLSWithUnknownCA_ClientsRejectTheBinding(t *testing.T) {
	t.Parallel()
	in := input(t, "sim", "rabbitmq: {managed: {tls: {secretName: missing}}}, redis: {managed: {tls: {secretName: missing}}}")
	objects := build(t, in)
	for name, service := range map[string]binding.Service{"sim-rabbitmq": binding.RabbitMQ(), "sim-redis": binding.Redis()} {
		if b, err := binding.Data(service, find[*corev1.Secret](t, objects, name).Data); err == nil || !strings.Contains(err.Error(), "ca.crt") {
			t.Errorf("clients connect to %s, want an error about ca.crt (%v)", b.Redacted(), err)
		}
	}
	in.Credentials.Certificates = map[string]resources.CertificateData{"missing": {CA: tlstest.NewAuthority(t, "user").PEM}}
	objects = build(t, in)
	for name, service := range map[string]binding.Service{"sim-rabbitmq": binding.RabbitMQ(), "sim-redis": binding.Redis()} {
		b, err := binding.Data(service, find[*corev1.Secret](t, objects, name).Data)
		if err != nil || b.URI.Scheme != service.TLSScheme {
			t.Errorf("clients connect to %s, want TLS (%v)", b.Redacted(), err)
		}
	}
}

func TestBuild_RejectsInvalidInput(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spec string
		edit func(*testInput)
		want string
	}{
		"an invalid spec":                {"exit: {matchPercent: 101}", nil, "spec.exit.matchPercent"},
		"an unknown field in a template": {"processor: {template: {spec: {containerz: []}}}", nil, "spec.processor.template.spec.containerz"},
		"a wrong type in a template":     {"entry: {template: {spec: {nodeSelector: []}}}", nil, "spec.entry.template.spec.nodeSelector"},
		"a container without a name":     {"exit: {template: {spec: {containers: [{image: x}]}}}", nil, "spec.exit.template.spec.containers[0].name: Required value"},
		"a container without an image":   {"summaryAPI: {managed: {template: {spec: {containers: [{name: x}]}}}}", nil, "spec.summaryAPI.managed.template.spec.containers[0].image: Required value"},
		"a template without containers":  {"exit: {template: {spec: {containers: null}}}", nil, `spec.exit.template.spec: must keep the container named "parking"`},
		"a password with a line end":     {"", func(in *testInput) { in.Credentials.BrokerPassword = "a\nb" }, "the password of RabbitMQ must be"},
		"an empty password":              {"", func(in *testInput) { in.Credentials.RedisPassword = "" }, "the password of Redis must be"},
		"a cookie with a quote":          {"", func(in *testInput) { in.Credentials.ErlangCookie = "a'b" }, "the Erlang cookie of RabbitMQ must be"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(t, "faulty", test.spec)
			if test.edit != nil {
				test.edit(&in)
			}
			objects, err := in.build()
			if err == nil || !strings.Contains(err.Error(), test.want) || objects != nil {
				t.Fatalf("Build returns error %v and %d objects, want an error with %q and no objects", err, len(objects), test.want)
			}
			for _, value := range []string{brokerPassword, redisPassword, "a'b", "#a", "a\nb"} {
				if strings.Contains(err.Error(), value) {
					t.Errorf("error %v contains a credential", err)
				}
			}
		})
	}
}

// planOf parses the plan in the ConfigMap.
func planOf(t *testing.T, objects []client.Object, sim *v1alpha1.ParkingSimulation) *plan.Plan {
	t.Helper()
	config := find[*corev1.ConfigMap](t, objects, resources.PlanName(sim))
	p, err := plan.Parse([]byte(config.Data[resources.PlanKey]))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBuild_StartTimeUnknown_SuspendsThePlan(t *testing.T) {
	t.Parallel()
	in := input(t, "sim", "")
	if p := planOf(t, build(t, in), in.Simulation); p.Suspended || !p.StartTime.Equal(in.StartTime.Time) {
		t.Errorf("the plan has suspended %v and start %s, want one that runs from %s", p.Suspended, p.StartTime, in.StartTime)
	}
	in.StartTime = nil
	if p := planOf(t, build(t, in), in.Simulation); !p.Suspended || !p.StartTime.IsZero() {
		t.Errorf("without a start time the plan has suspended %v and start %s, want a suspended one", p.Suspended, p.StartTime)
	}
}

// templates returns the pod templates of all workloads, by the name of the workload.
func templates(t rapid.TB, objects []client.Object) map[string]corev1.PodTemplateSpec {
	t.Helper()
	found := map[string]corev1.PodTemplateSpec{}
	for _, object := range objects {
		text, present, err := unstructured.NestedMap(asMap(t, object), "spec", "template")
		if err != nil || !present {
			continue
		}
		var template corev1.PodTemplateSpec
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(text, &template); err != nil {
			t.Fatal(err)
		}
		found[object.GetName()] = template
	}
	return found
}

func TestBuild_ChangedInput_ReplacesOnlyPodsThatNeedTheChange(t *testing.T) {
	t.Parallel()
	const base = "entry: {rate: 1}, rabbitmq: {managed: {replicas: 3}}"
	tests := map[string]struct {
		spec string
		edit func(*testInput)
		want []string
	}{
		"rates":                            {"entry: {rate: 2, arrivals: Poisson, stages: [{duration: 1s, rate: 5}]}, exit: {rate: 7, matchPercent: 3, minStay: 1s}, plates: {maxStay: 3h}, rabbitmq: {managed: {replicas: 3}}", nil, nil},
		"suspend":                          {base + ", suspend: true", nil, nil},
		"clients are held":                 {base, func(in *testInput) { in.HoldClients = true }, nil},
		"start time":                       {base, func(in *testInput) { in.StartTime = nil }, nil},
		"replicas":                         {base + ", processor: {replicas: 9}, exit: {replicas: 3}", nil, nil},
		"Prometheus Operator is installed": {base, func(in *testInput) { in.Served = resources.Served{} }, nil},
		"image of parking":                 {base, func(in *testInput) { in.Images.Parking = "parking:v2" }, []string{"sim-entry", "sim-exit", "sim-processor", "sim-summaries"}},
		"concurrency":                      {base + ", processor: {concurrency: 7}", nil, []string{"sim-processor"}},
		"template":                         {base + ", exit: {template: {metadata: {labels: {a: b}}}}", nil, []string{"sim-exit"}},
		"template of RabbitMQ":             {"rabbitmq: {managed: {replicas: 3, template: {spec: {priorityClassName: high}}}}", nil, []string{"sim-rabbitmq"}},
		"template of Redis":                {base + ", redis: {managed: {template: {spec: {priorityClassName: high}}}}", nil, []string{"sim-redis"}},
		"TLS of RabbitMQ":                  {"rabbitmq: {managed: {replicas: 3, tls: {}}}", nil, []string{"sim-entry", "sim-exit", "sim-processor", "sim-rabbitmq"}},
		"TLS of Redis":                     {base + ", redis: {managed: {tls: {}}}", nil, []string{"sim-entry", "sim-exit", "sim-processor", "sim-redis"}},
		"durability of Redis":              {base + ", redis: {durability: Synced}", nil, []string{"sim-entry", "sim-exit", "sim-processor"}},
		"size of the volumes":              {"rabbitmq: {managed: {replicas: 3, storage: {size: 9Gi}}}, redis: {managed: {storage: {size: 9Gi}}}, summaryAPI: {managed: {storage: {size: 9Gi}}}", nil, nil},
		"resources of RabbitMQ":            {"rabbitmq: {managed: {replicas: 3, resources: {limits: {memory: 4Gi}}}}", nil, []string{"sim-rabbitmq"}},
		"password of Redis":                {base, func(in *testInput) { in.Credentials.RedisPassword = "other" }, []string{"sim-redis"}},
		"password of RabbitMQ":             {base, func(in *testInput) { in.Credentials.BrokerPassword = "other" }, []string{"sim-rabbitmq"}},
		"Erlang cookie":                    {base, func(in *testInput) { in.Credentials.ErlangCookie = "other" }, nil},
		"external summary API":             {base + `, summaryAPI: {url: "https://example.com/"}`, nil, []string{"sim-processor", "sim-summaries"}},
	}
	before := templates(t, build(t, input(t, "sim", base)))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := input(t, "sim", test.spec)
			if test.edit != nil {
				test.edit(&in)
			}
			after := templates(t, build(t, in))
			var rolled []string
			for _, workload := range []string{"sim-entry", "sim-exit", "sim-processor", "sim-rabbitmq", "sim-redis", "sim-summaries"} {
				if !cmp.Equal(before[workload], after[workload]) {
					rolled = append(rolled, workload)
				}
			}
			if diff := cmp.Diff(test.want, rolled); diff != "" {
				t.Errorf("workloads whose pods are replaced (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuild_TemplateWithLabels_DoesNotChangeSelectorLabels(t *testing.T) {
	t.Parallel()
	spec := fmt.Sprintf("processor: {template: {metadata: {labels: {%s: other, %s: other, team: a}}}}", resources.SimulationLabel, resources.ComponentLabel)
	in := input(t, "sim", spec)
	labels := templates(t, build(t, in))["sim-processor"].Labels
	for key, value := range resources.Selector(in.Simulation, resources.ComponentProcessor) {
		if labels[key] != value {
			t.Errorf("label %s is %s, want %s", key, labels[key], value)
		}
	}
	if labels["team"] != "a" {
		t.Errorf("labels are %v, want them to include team=a", labels)
	}
}

func TestBuild_DashboardSelectsItsSimulation(t *testing.T) {
	t.Parallel()
	in := input(t, "rush-hour", "")
	config := find[*corev1.ConfigMap](t, build(t, in), "rush-hour-dashboard")
	var dashboard struct {
		Title, UID string
		Templating struct {
			List []struct{ Name, Query string }
		}
	}
	if err := json.Unmarshal([]byte(config.Data["parking-lot.rush-hour.json"]), &dashboard); err != nil {
		t.Fatal(err)
	}
	const longestUID = 40
	if dashboard.Title != "Parking simulation lot/rush-hour" || dashboard.UID == "" || len(dashboard.UID) > longestUID {
		t.Errorf("title %q, uid %q", dashboard.Title, dashboard.UID)
	}
	got := map[string]string{}
	for _, variable := range dashboard.Templating.List {
		got[variable.Name] = variable.Query
	}
	want := map[string]string{"datasource": "prometheus", "namespace": "lot", "simulation": "rush-hour"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestBuild_SummaryAPIWithDatabase_ReplacesPodsOnlyIfSecretRefChanges(t *testing.T) {
	t.Parallel()
	const base = "summaryAPI: {managed: {replicas: 2, database: {secretRef: {name: a}}}}"
	before := templates(t, build(t, input(t, "sim", base)))["sim-summaries"]
	for spec, want := range map[string]bool{
		base + ", entry: {rate: 7}": false,
		"summaryAPI: {managed: {replicas: 3, database: {secretRef: {name: a}}}}": false,
		"summaryAPI: {managed: {replicas: 2, database: {secretRef: {name: b}}}}": true,
	} {
		after := templates(t, build(t, input(t, "sim", spec)))["sim-summaries"]
		if got := !cmp.Equal(before, after); got != want {
			t.Errorf("%s: pods are replaced: %t, want %t", spec, got, want)
		}
	}
}

func TestSummarySchema_IsValidAndDiffersBetweenSimulations(t *testing.T) {
	t.Parallel()
	valid := regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)
	seen := map[string]bool{}
	for _, meta := range []metav1.ObjectMeta{
		{Namespace: "lot", Name: "rush-hour", UID: "0a0a0a0a-1b1b-2c2c-3d3d-4e4e4e4e4e4e"},
		{Namespace: "lot", Name: "rush-hour", UID: "1a0a0a0a-1b1b-2c2c-3d3d-4e4e4e4e4e4e"},
		{Namespace: strings.Repeat("n", 63), Name: strings.Repeat("a", 40), UID: "2a0a0a0a-1b1b-2c2c-3d3d-4e4e4e4e4e4e"},
		{Namespace: strings.Repeat("n", 63), Name: strings.Repeat("b", 40), UID: "2a0a0a0a-1b2b-2c2c-3d3d-4e4e4e4e4e4e"},
		{Namespace: "0", Name: "a"},
	} {
		schema := resources.SummarySchema(&v1alpha1.ParkingSimulation{ObjectMeta: meta})
		if !valid.MatchString(schema) || strings.HasPrefix(schema, "pg_") || seen[schema] {
			t.Errorf("%s/%s has the schema %q, want a valid and unique one", meta.Namespace, meta.Name, schema)
		}
		seen[schema] = true
	}
}

// If the plan isolates any component, clients connect to all servers through the agents of the servers. Otherwise
// they connect directly.
func TestBuild_PlanWithIsolation_RelaysClientsThroughAgents(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]bool{"Isolate": true, "Pause": false} {
		in := input(t, "sim", "duration: 1m, faults: [{name: cut, target: Processor, action: "+action+", at: 10s, for: 5s}]")
		in.Credentials.Agent = resources.AgentCredentials{Token: agentToken, Certificate: "the certificate", PrivateKey: agentKey}
		objects := build(t, in)
		for component, port := range map[string]string{"rabbitmq": "amqp", "redis": "redis", "summaries": "http"} {
			service := find[*corev1.Service](t, objects, "sim-"+component)
			if got := service.Spec.Ports[0]; got.Name != port || (got.TargetPort.StrVal == "relay") != want {
				t.Errorf("%s: port %s of %s leads to %s", action, got.Name, service.Name, got.TargetPort.StrVal)
			}
			set := find[*appsv1.StatefulSet](t, objects, "sim-"+component)
			relays := slices.ContainsFunc(set.Spec.Template.Spec.Containers, func(c corev1.Container) bool {
				return c.Name == "agent" && slices.ContainsFunc(c.Args, func(arg string) bool { return strings.HasPrefix(arg, "--relay=") })
			})
			if relays != want {
				t.Errorf("%s: the agent of %s relays: %t", action, set.Name, relays)
			}
			allowed := slices.ContainsFunc(objects, func(o client.Object) bool {
				policy, ok := o.(*networkingv1.NetworkPolicy)
				return ok && policy.Name == "sim-"+component && slices.ContainsFunc(policy.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
					return slices.ContainsFunc(r.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == 8091 })
				})
			})
			if allowed != want {
				t.Errorf("%s: a policy of %s allows the relay: %t", action, component, allowed)
			}
		}
	}
}
