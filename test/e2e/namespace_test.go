//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// namespace is the Kubernetes namespace of one test.
type namespace struct {
	*cluster

	t    *testing.T
	name string
	// expected contains the warning events that this test may cause. Every test may also cause those in alwaysExpected.
	expected []warning
}

// newNamespace creates a namespace and deletes it when the test ends, unless the test has failed and E2E_KEEP is set.
// Unexpected warning events in the namespace fail the test.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	name := namespacePrefix + strconv.FormatInt(time.Now().UnixNano(), 36)
	if err := shared.createNamespace(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	ns := &namespace{cluster: shared, t: t, name: name}
	t.Cleanup(func() {
		ns.t = t
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ns.checkWarnings(ctx)
		if t.Failed() {
			ns.describe(ctx)
			if os.Getenv("E2E_KEEP") != "" {
				return
			}
		}
		if err := ns.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return ns
}

// applySample creates the simulation of a sample manifest. If the function edit is not nil, it first changes the
// simulation.
func (ns *namespace) applySample(file string, edit func(*v1alpha1.ParkingSimulation)) *v1alpha1.ParkingSimulation {
	ns.t.Helper()
	text, err := os.ReadFile(repository + "/config/samples/" + file)
	if err != nil {
		ns.t.Fatal(err)
	}
	sim := &v1alpha1.ParkingSimulation{}
	if err := yaml.UnmarshalStrict(text, sim); err != nil {
		ns.t.Fatal(err)
	}
	sim.Namespace = ns.name
	if edit != nil {
		edit(sim)
	}
	if err := ns.Create(ns.t.Context(), sim); err != nil {
		ns.t.Fatal(err)
	}
	return sim
}

// shareNode reduces the resource requests of a simulation, so that several simulations fit on one node with two cores.
func shareNode(sim *v1alpha1.ParkingSimulation) {
	requirements := func(cpu, memoryLimit v1alpha1.Quantity) *v1alpha1.ResourceRequirements {
		return &v1alpha1.ResourceRequirements{
			Requests: v1alpha1.ResourceList{"cpu": cpu, "memory": "64Mi"},
			Limits:   v1alpha1.ResourceList{"memory": memoryLimit},
		}
	}
	spec := &sim.Spec
	spec.RabbitMQ.Managed = cmp.Or(spec.RabbitMQ.Managed, &v1alpha1.ManagedRabbitMQ{})
	spec.RabbitMQ.Managed.Resources = requirements("60m", "1Gi")
	spec.Redis.Managed = cmp.Or(spec.Redis.Managed, &v1alpha1.ManagedRedis{})
	spec.Redis.Managed.Resources = requirements("40m", "256Mi")
	spec.SummaryAPI.Managed = cmp.Or(spec.SummaryAPI.Managed, &v1alpha1.ManagedSummaryAPI{})
	spec.SummaryAPI.Managed.Resources = requirements("20m", "512Mi")
	spec.Entry.Resources = requirements("20m", "512Mi")
	spec.Exit.Resources = requirements("20m", "512Mi")
	spec.Processor.Resources = requirements("40m", "512Mi")
}

// lowRates sets rates that a shared node can sustain. A simulation fails if more than 10 % of the due events are not
// published.
func lowRates(sim *v1alpha1.ParkingSimulation) {
	sim.Spec.Entry.Rate, sim.Spec.Exit.Rate = new(int32(50)), new(int32(50))
}

func (ns *namespace) edit(sim *v1alpha1.ParkingSimulation, change func(*v1alpha1.ParkingSimulationSpec)) {
	ns.t.Helper()
	current := ns.get(sim)
	base := client.MergeFrom(current.DeepCopy())
	change(&current.Spec)
	if err := ns.Patch(ns.t.Context(), current, base); err != nil {
		ns.t.Fatal(err)
	}
}

func (ns *namespace) get(sim *v1alpha1.ParkingSimulation) *v1alpha1.ParkingSimulation {
	ns.t.Helper()
	current := &v1alpha1.ParkingSimulation{}
	if err := ns.Get(ns.t.Context(), client.ObjectKeyFromObject(sim), current); err != nil {
		ns.t.Fatal(err)
	}
	return current
}

// eventually calls the function check repeatedly until check returns nil. The result is the elapsed time. If check
// still returns an error after the timeout, the test fails.
func (ns *namespace) eventually(what string, timeout time.Duration, check func() error) time.Duration {
	ns.t.Helper()
	const interval = 200 * time.Millisecond
	start := time.Now()
	for {
		err := check()
		took := time.Since(start)
		if err == nil {
			ns.t.Logf("%-60s %6.1f s", what, took.Seconds())
			return took
		}
		if took > timeout {
			ns.t.Fatalf("%s: timeout after %s: %v", what, timeout, err)
		}
		select {
		case <-ns.t.Context().Done():
			ns.t.Fatal(ns.t.Context().Err())
		case <-time.After(interval):
		}
	}
}

// awaitCondition waits until a condition of the simulation is true for the current generation.
func (ns *namespace) awaitCondition(sim *v1alpha1.ParkingSimulation, condition string, timeout time.Duration) {
	ns.t.Helper()
	ns.eventually(sim.Name+" is "+condition, timeout, func() error {
		current := ns.get(sim)
		c := meta.FindStatusCondition(current.Status.Conditions, condition)
		switch {
		case c == nil:
			return errors.New("the simulation has no such condition")
		case c.Status != metav1.ConditionTrue || c.ObservedGeneration != current.Generation:
			return fmt.Errorf("%s at generation %d of %d: %s: %s", c.Status, c.ObservedGeneration, current.Generation, c.Reason, c.Message)
		}
		return nil
	})
}

func (ns *namespace) pods(sim *v1alpha1.ParkingSimulation, c resources.Component) []corev1.Pod {
	ns.t.Helper()
	var list corev1.PodList
	if err := ns.List(ns.t.Context(), &list, client.InNamespace(ns.name), client.MatchingLabels(resources.Selector(sim, c))); err != nil {
		ns.t.Fatal(err)
	}
	return list.Items
}

// allPods returns the pods of the namespace, including pods that are being deleted.
func (ns *namespace) allPods() []corev1.Pod {
	ns.t.Helper()
	var list corev1.PodList
	if err := ns.List(ns.t.Context(), &list, client.InNamespace(ns.name)); err != nil {
		ns.t.Fatal(err)
	}
	return list.Items
}

// awaitPods waits until a component has exactly the given number of pods and all these pods are ready.
func (ns *namespace) awaitPods(sim *v1alpha1.ParkingSimulation, c resources.Component, count int, timeout time.Duration) {
	ns.t.Helper()
	ns.eventually(fmt.Sprintf("%d ready %s pods", count, c), timeout, func() error {
		return allReady(ns.pods(sim, c), count)
	})
}

// allReady returns an error unless the number of pods is count and all these pods are ready.
func allReady(pods []corev1.Pod, count int) error {
	for _, pod := range pods {
		if !isReady(&pod) {
			return fmt.Errorf("pod %s is not ready", pod.Name)
		}
	}
	if len(pods) != count {
		return fmt.Errorf("there are %d pods", len(pods))
	}
	return nil
}

func isReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// incarnations returns a text per container, by <pod>/<container>. The text changes when the container is restarted or
// the pod is replaced.
func (ns *namespace) incarnations() map[string]string {
	ns.t.Helper()
	all := map[string]string{}
	for _, pod := range ns.allPods() {
		for _, c := range pod.Status.ContainerStatuses {
			all[pod.Name+"/"+c.Name] = fmt.Sprintf("%s, %d restarts", pod.UID, c.RestartCount)
		}
	}
	return all
}

// exec runs a command in the first container of a pod.
func (ns *namespace) exec(pod corev1.Pod, command ...string) ([]byte, error) {
	arguments := append([]string{"exec", "--namespace", ns.name, pod.Name, "--container", pod.Spec.Containers[0].Name, "--"}, command...)
	out, err := exec.CommandContext(ns.t.Context(), "kubectl", arguments...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run %s in pod %s: %w: %s", command[0], pod.Name, err, out)
	}
	return out, nil
}

// metric returns the sum of a metric over all pods of a component. If value is not empty, only series with this
// label value count.
func (ns *namespace) metric(sim *v1alpha1.ParkingSimulation, c resources.Component, name, value string) (float64, error) {
	sum, scheme := 0.0, "http"
	if resources.TLSOf(sim, c) != nil {
		scheme = "https"
	}
	for _, pod := range ns.pods(sim, c) {
		text, err := ns.set.CoreV1().Pods(ns.name).ProxyGet(scheme, pod.Name, "8080", "/metrics", nil).DoRaw(ns.t.Context())
		if err != nil {
			return 0, err
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			return 0, err
		}
		family, ok := families[name]
		if !ok {
			return 0, fmt.Errorf("pod %s has no metric %s", pod.Name, name)
		}
		for _, m := range family.Metric {
			if value == "" || slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetValue() == value }) {
				sum += sample(m)
			}
		}
	}
	return sum, nil
}

func sample(m *dto.Metric) float64 {
	return m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue()
}

// warning selects the warning events that have the given reason and whose message contains the given text. An empty
// text selects every message.
type warning struct{ reason, message string }

// alwaysExpected selects the warning events that can occur in every test. If their causes persist, pods do not become
// ready, and the test fails anyway.
var alwaysExpected = []warning{
	// These warnings occur while a container starts.
	{"Unhealthy", "Startup probe failed"},
	{"Unhealthy", "Readiness probe failed"},
	// These warnings occur if a container ends during a probe, or if the kubelet cancels a probe because it ends the
	// container.
	{"Unhealthy", "Startup probe errored"},
	{"Unhealthy", "Readiness probe errored"},
	{"Unhealthy", "rpc error: code = Canceled desc = context canceled"},
	// These warnings occur if a container on a busy machine answers a probe late, or executes the command of a probe
	// slowly. If that persists, the kubelet restarts the container.
	{"Unhealthy", "context deadline exceeded"},
	{"Unhealthy", "Client.Timeout exceeded"},
	{"Unhealthy", "command timed out"},
	// These warnings occur until the PersistentVolumeClaim of a new pod is bound.
	{"FailedScheduling", `persistentvolumeclaim "`},
	{"FailedScheduling", "pod has unbound immediate PersistentVolumeClaims"},
	{"PodsFailing", "pod has unbound immediate PersistentVolumeClaims"},
	// This warning occurs if a pod is deleted before it is scheduled.
	{"FailedScheduling", "skip schedule deleting pod"},
	// These warnings occur if the kubelet has not yet read the Secrets and ConfigMaps of a pod, or if these objects
	// were deleted before the pod.
	{"FailedMount", "failed to sync secret cache: timed out waiting for the condition"},
	{"FailedMount", "failed to sync configmap cache: timed out waiting for the condition"},
	{"FailedMount", " not registered"},
	{"FailedMount", `secret "`},
	{"FailedMount", `configmap "`},
	// This warning occurs until the kubelet notices that the PersistentVolumeClaim is bound.
	{"FailedMount", "PVC is not bound"},
	// This warning occurs until the API server notices that the pod with the PersistentVolumeClaim runs on the node.
	{"FailedMount", "no relationship found between node"},
	// These warnings occur if a pod is deleted while Kubernetes sets up or removes the network of the pod.
	{"FailedCreatePodSandBox", ""},
	{"FailedKillPod", ""},
	// These warnings occur if two controllers write to the same object at the same time.
	{"FailedUpdate", "the object has been modified"},
	{"ProvisioningFailed", "the object has been modified"},
	{"FailedToUpdateEndpoint", ""},
	{"FailedToUpdateEndpointSlices", ""},
	// Every few minutes, the API server checks the IP addresses of Services. The check emits this warning about a
	// Service that is still being created.
	{"ClusterIPNotAllocated", "repairing"},
	// This warning occurs if the disruption controller sees a pod whose Deployment has just been deleted.
	{"CalculateExpectedPodCountFailed", "found no controllers for pod"},
}

// checkWarnings fails the test for every unexpected warning event.
func (ns *namespace) checkWarnings(ctx context.Context) {
	ns.t.Helper()
	warnings, err := ns.warnings(ctx, ns.name, ns.expected)
	if err != nil {
		ns.t.Error(err)
	}
	for _, warning := range warnings {
		ns.t.Error(warning)
	}
}

// warnings returns the warning events in a namespace that neither expected nor alwaysExpected selects.
func (c *cluster) warnings(ctx context.Context, namespace string, expected []warning) ([]string, error) {
	var events corev1.EventList
	if err := c.List(ctx, &events, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	expected = slices.Concat(alwaysExpected, expected)
	var all []string
	for _, event := range events.Items {
		isExpected := slices.ContainsFunc(expected, func(w warning) bool {
			return event.Reason == w.reason && strings.Contains(event.Message, w.message)
		})
		if event.Type == corev1.EventTypeWarning && !isExpected {
			all = append(all, fmt.Sprintf("warning about %s %s: %s: %s", event.InvolvedObject.Kind, event.InvolvedObject.Name, event.Reason, event.Message))
		}
	}
	return all, nil
}

// leftovers returns the names of all objects in the namespace, without events and without the objects that Kubernetes
// creates in every namespace.
func (ns *namespace) leftovers() ([]string, error) {
	lists, err := ns.set.Discovery().ServerPreferredNamespacedResources()
	if err != nil {
		return nil, err
	}
	var left []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, kind := range list.APIResources {
			if !slices.Contains(kind.Verbs, "list") || kind.Name == "events" {
				continue
			}
			objects, err := ns.metadata.Resource(version.WithResource(kind.Name)).Namespace(ns.name).List(ns.t.Context(), metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", kind.Name, err)
			}
			for _, object := range objects.Items {
				name := kind.Name + "/" + object.Name
				if name != "configmaps/kube-root-ca.crt" && name != "serviceaccounts/default" {
					left = append(left, name)
				}
			}
		}
	}
	return left, nil
}

// remove deletes a simulation and waits until the namespace is empty.
func (ns *namespace) remove(sim *v1alpha1.ParkingSimulation) {
	ns.t.Helper()
	if err := ns.Delete(ns.t.Context(), sim); err != nil {
		ns.t.Fatal(err)
	}
	ns.eventually("an empty namespace after the deletion of "+sim.Name, 3*time.Minute, func() error {
		left, err := ns.leftovers()
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("it has %s", strings.Join(left, ", "))
		}
		return err
	})
}

func (ns *namespace) describe(ctx context.Context) {
	var sims v1alpha1.ParkingSimulationList
	if err := ns.List(ctx, &sims, client.InNamespace(ns.name)); err == nil {
		for _, sim := range sims.Items {
			text, _ := json.MarshalIndent(sim.Status, "", "  ")
			ns.t.Logf("status of %s:\n%s", sim.Name, text)
		}
	}
	for _, arguments := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "--all-containers", "--prefix", "--tail=15", "--selector=" + resources.SimulationLabel},
	} {
		cmd := exec.CommandContext(ctx, "kubectl", append(arguments, "--namespace", ns.name)...)
		out, _ := cmd.CombinedOutput()
		ns.t.Logf("kubectl %s\n%s", strings.Join(arguments, " "), out)
	}
}
