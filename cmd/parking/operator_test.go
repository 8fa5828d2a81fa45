//go:build !nooperator

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/wiring"
	"github.com/parking-operator/parking-operator/test/servers"
)

// lot is an API server without nodes, at which the operator works as a process of its own. The test plays
// the controllers and the kubelet.
type lot struct {
	t         *testing.T
	env       *envtest.Environment
	client    client.Client
	namespace string
	// log is the file with the operator's log, metrics where it serves these.
	log, metrics string
}

// muteLibrary ends the complaint that nobody took the logs of the library: the operator's own is in a file.
var muteLibrary = sync.OnceFunc(func() { log.SetLogger(logr.Discard()) })

func newLot(t *testing.T) *lot {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		const missing = "there is no API server: set KUBEBUILDER_ASSETS to what hack/envtest.sh prints"
		if os.Getenv("PARKING_TEST_REQUIRE") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	muteLibrary()
	l := &lot{t: t, namespace: "lot", env: &envtest.Environment{
		CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true, ControlPlaneStartTimeout: 5 * time.Minute,
	}}
	config, err := l.env.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.env.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme, err := controllers.NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	if l.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	l.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.namespace}})
	return l
}

// startOperator runs the operator until the test ends.
func (l *lot) startOperator(args ...string) {
	l.t.Helper()
	l.metrics, l.log = closedPort(l.t), filepath.Join(l.t.TempDir(), "operator.log")
	args = append([]string{
		"operator", "--leader-elect=false", "--health-address", "0", "--metrics-insecure", "--metrics-address", l.metrics, "--log-level", "debug",
	}, args...)
	l.process(l.log, []string{"KUBECONFIG=" + file(l.t, "kubeconfig", string(l.env.KubeConfig))}, args...)
}

// process runs a command until the test ends or the returned function is called. It is to end well.
func (l *lot) process(log string, env []string, args ...string) (stop func()) {
	l.t.Helper()
	output, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = output.Close() }() // the process has its own
	cmd := exec.Command(binary(l.t), args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			text, _ := os.ReadFile(log)
			l.t.Errorf("%q ended with %v:\n%s", args, err, text[max(0, len(text)-4000):])
		}
	}
	l.t.Cleanup(stop)
	return stop
}

func (l *lot) create(o client.Object) {
	l.t.Helper()
	if err := l.client.Create(l.t.Context(), o); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lot) secret(name, uri string) *v1alpha1.SecretReference {
	l.t.Helper()
	l.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: name}, StringData: map[string]string{"uri": uri}})
	return &v1alpha1.SecretReference{Name: name}
}

func (l *lot) simulate(name string, spec v1alpha1.ParkingSimulationSpec) *v1alpha1.ParkingSimulation {
	l.t.Helper()
	sim := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: name}, Spec: spec}
	l.create(sim)
	return sim
}

// eventually polls until check passes.
func (l *lot) eventually(what string, check func() error) {
	l.t.Helper()
	deadline := time.After(90 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			output, _ := os.ReadFile(l.log)
			l.t.Fatalf("%s: %v\nthe operator's log ends with:\n%s", what, err, output[max(0, len(output)-4000):])
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// expect waits for a condition.
func (l *lot) expect(sim *v1alpha1.ParkingSimulation, kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	l.t.Helper()
	var got metav1.Condition
	l.eventually(fmt.Sprintf("%s of %s to be %s/%s", kind, sim.Name, status, reason), func() error {
		if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		c := meta.FindStatusCondition(sim.Status.Conditions, kind)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != sim.Generation {
			return fmt.Errorf("the conditions are %+v", sim.Status.Conditions)
		}
		got = *c
		return nil
	})
	return got
}

// gone deletes a simulation and waits until it is.
func (l *lot) gone(sim *v1alpha1.ParkingSimulation) {
	l.t.Helper()
	if err := l.client.Delete(l.t.Context(), sim); err != nil {
		l.t.Fatal(err)
	}
	l.eventually(sim.Name+" to be gone", func() error {
		switch err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(sim), sim); {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return errors.New("it is still there")
	})
}

// settle has every workload say that it has the pods it is to have.
func (l *lot) settle() {
	l.t.Helper()
	l.eventually("workloads to settle", func() error {
		deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
		if err := errors.Join(l.client.List(l.t.Context(), deployments), l.client.List(l.t.Context(), sets)); err != nil {
			return err
		}
		var errs []error
		for i := range deployments.Items {
			d, n := &deployments.Items[i], *deployments.Items[i].Spec.Replicas
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			errs = append(errs, l.client.Status().Update(l.t.Context(), d))
		}
		for i := range sets.Items {
			s, n := &sets.Items[i], *sets.Items[i].Spec.Replicas
			s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
			errs = append(errs, l.client.Status().Update(l.t.Context(), s))
		}
		return errors.Join(errs...)
	})
}

// pod makes a pod of a component that runs at an address.
func (l *lot) pod(sim *v1alpha1.ParkingSimulation, c resources.Component, ip string) *corev1.Pod {
	l.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: resources.Name(sim, c) + "-0", Labels: resources.Selector(sim, c)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "parking", Image: "parking"}}, TerminationGracePeriodSeconds: new(int64(0))},
	}
	l.create(pod)
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	if err := l.client.Status().Update(l.t.Context(), pod); err != nil {
		l.t.Fatal(err)
	}
	return pod
}

// mountPlan writes the simulation's plan to a file, as a kubelet does but for the servers' addresses, until
// the test ends, and returns its path.
func (l *lot) mountPlan(sim *v1alpha1.ParkingSimulation, edit func(*plan.Plan)) string {
	l.t.Helper()
	path, written := filepath.Join(l.t.TempDir(), "plan.json"), ""
	key := client.ObjectKey{Namespace: sim.Namespace, Name: resources.PlanName(sim)} // the test goes on using sim
	mount := func(ctx context.Context) error {
		config := &corev1.ConfigMap{}
		if err := l.client.Get(ctx, key, config); err != nil {
			return err
		}
		text := config.Data[resources.PlanKey]
		if text == written {
			return nil
		}
		p, err := plan.Parse([]byte(text))
		if err != nil {
			return err
		}
		edit(p)
		written = text
		return p.Write(path)
	}
	l.eventually("the plan", func() error { return mount(l.t.Context()) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
				_ = mount(ctx) // it is tried again
			}
		}
	}()
	l.t.Cleanup(func() { cancel(); <-ended })
	return path
}

// address is one of the loopback network at which port 8080 is free, as it is at that of every new pod.
func address(t *testing.T, network int) string {
	t.Helper()
	for host := 2; host < 250; host++ {
		ip := fmt.Sprintf("127.91.%d.%d", network, host)
		if listener, err := net.Listen("tcp", ip+":8080"); err == nil {
			_ = listener.Close()
			return ip
		}
	}
	t.Fatal("no address is free")
	return ""
}

func TestTheOperatorRunsASimulationOnRealServers(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	l := newLot(t)
	l.startOperator()
	sim := l.simulate("rush", v1alpha1.ParkingSimulationSpec{
		Duration: &metav1.Duration{Duration: 6 * time.Second},
		Entry:    v1alpha1.EntrySpec{Rate: new(int32(100))},
		Exit:     v1alpha1.ExitSpec{Rate: new(int32(80)), MatchPercent: new(int32(50)), MinStay: &metav1.Duration{Duration: 200 * time.Millisecond}},
		RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: l.secret("broker", amqp)},
		Redis:    v1alpha1.RedisSpec{SecretRef: l.secret("store", redis)},
		Objectives: v1alpha1.ObjectivesSpec{
			ProcessingP99: &metav1.Duration{Duration: time.Minute}, EndToEndP99: &metav1.Duration{Duration: time.Minute},
		},
	})
	id := plan.SimulationID(sim)
	servers.RemoveKeys(t, id)
	removeQueues(t, amqp, id)

	processor, summaries := address(t, 1), address(t, 2)
	planFile := l.mountPlan(sim, func(p *plan.Plan) {
		p.RabbitMQ, p.Redis = plan.Endpoint{URI: amqp}, plan.Endpoint{URI: redis}
		p.SummaryAPI = plan.SummaryAPI{URL: "http://" + summaries + ":8080"}
	})
	output := filepath.Join(t.TempDir(), "pods.log")
	l.process(output, nil, "summaries", "--database", filepath.Join(t.TempDir(), "summaries.db"), "--http", summaries+":8080")
	l.process(output, nil, "process", "--plan", planFile, "--http", processor+":8080")
	var generators []func()
	for _, c := range []string{"entry", "exit"} {
		generators = append(generators, l.process(output, nil, "generate", c, "--plan", planFile, "--http", "127.0.0.1:0"))
	}
	pods := []*corev1.Pod{l.pod(sim, resources.ComponentProcessor, processor), l.pod(sim, resources.ComponentSummaries, summaries)}

	l.expect(sim, "BrokerReady", metav1.ConditionTrue, "Ready")
	l.expect(sim, "StoreReady", metav1.ConditionTrue, "Ready")
	l.settle()
	l.expect(sim, "Complete", metav1.ConditionFalse, "Running")
	l.eventually("the ledger to move", func() error {
		if err := l.client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		if sim.Status.Ledger == nil || sim.Status.Ledger.Processed == 0 {
			return fmt.Errorf("it is %+v", sim.Status.Ledger)
		}
		return nil
	})
	l.expect(sim, "Complete", metav1.ConditionFalse, "StoppingGenerators")
	for _, stop := range generators {
		stop()
	}
	l.eventually("the operator to stop the generators", func() error {
		l.settle()
		c := meta.FindStatusCondition(sim.Status.Conditions, "Complete")
		if err := l.client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil || c.Reason == "StoppingGenerators" {
			return fmt.Errorf("it is %v: %w", c, err)
		}
		return nil
	})
	l.expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	met := l.expect(sim, "ObjectivesMet", metav1.ConditionTrue, "Met")
	t.Log(met.Message)
	status := sim.Status
	if status.Verdict != v1alpha1.VerdictPass || len(status.Reasons) > 0 || status.Latency == nil || status.Latency.Unmeasured != 0 ||
		status.Latency.Processing == nil || status.Latency.Processing.P99.Duration <= 0 || !strings.Contains(met.Message, status.Latency.EndToEnd.P99.Duration.String()) {
		t.Errorf("the status is %+v, want PASS with latencies, and these in the message %q", status, met.Message)
	}
	if l := status.Ledger; l.Lost == nil || *l.Lost != 0 || l.EntriesConfirmed == 0 || l.EntriesConfirmed != l.EntriesRecorded || l.Matched == 0 || l.Matched != l.SummariesStored {
		t.Errorf("the ledger is %+v, want it to balance", l)
	}
	for _, want := range []string{
		`parking_simulation_lost{namespace="lot",simulation="rush"} 0`,
		fmt.Sprintf(`parking_simulation_processed{namespace="lot",simulation="rush"} %d`, status.Ledger.Processed),
		`parking_simulation_condition{namespace="lot",simulation="rush",type="ObjectivesMet"} 1`,
	} {
		l.eventually("the metric "+want, func() error { return l.exports(want) })
	}

	if keys, queues := keysOf(t, redis, id), queuesOf(t, amqp, id, 1); len(keys) == 0 || len(queues) == 0 {
		t.Errorf("there are the keys %q and the queues %q, want some of each", keys, queues)
	}
	for _, pod := range pods { // as their controllers and kubelet do when the Deployments are deleted
		if err := l.client.Delete(t.Context(), pod); err != nil {
			t.Error(err)
		}
	}
	l.gone(sim)
	if keys, queues := keysOf(t, redis, id), queuesOf(t, amqp, id, 1); len(keys) > 0 || len(queues) > 0 {
		t.Errorf("the keys %q and the queues %q are left", keys, queues)
	}
	l.tells("rush", "CleanedUp", id)
}

// exports checks that the operator exports a sample.
func (l *lot) exports(want string) error {
	request, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, "http://"+l.metrics+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		return err
	}
	if !strings.Contains(body.String(), want+"\n") {
		return errors.New("it is not there")
	}
	return nil
}

// tells waits for an event about an object, and returns its note.
func (l *lot) tells(name, reason, part string) (note string) {
	l.t.Helper()
	l.eventually("an event "+reason+" of "+name, func() error {
		list := &corev1.EventList{}
		if err := l.client.List(l.t.Context(), list, client.InNamespace(l.namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if e := &list.Items[i]; e.InvolvedObject.Name == name && e.Reason == reason && strings.Contains(e.Message, part) {
				note = e.Message
				return nil
			}
		}
		return errors.New("there is none")
	})
	return note
}

func TestDeletionKeepsToItsPolicyAndEndsWithoutServers(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	l := newLot(t)
	l.startOperator("--cleanup-timeout", "10s")
	store := l.secret("store", redis)

	kept := l.simulate("kept", v1alpha1.ParkingSimulationSpec{
		RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: l.secret("broker", amqp)}, Redis: v1alpha1.RedisSpec{SecretRef: store},
		DeletionPolicy: v1alpha1.DeletionPolicyRetain,
	})
	id := plan.SimulationID(kept)
	servers.RemoveKeys(t, id)
	removeQueues(t, amqp, id)
	key := "parking:{" + id + ":0}:ledger"
	if err := redisClient(t, redis).HSet(t.Context(), key, "test", "1").Err(); err != nil {
		t.Fatal(err)
	}
	declareQueues(t, amqp, kept)
	l.expect(kept, "BrokerReady", metav1.ConditionTrue, "Ready")
	l.gone(kept)
	if keys, queues := keysOf(t, redis, id), queuesOf(t, amqp, id, 1); !slices.Contains(keys, key) || len(queues) == 0 {
		t.Errorf("of what is to be retained there are the keys %q and the queues %q", keys, queues)
	}

	orphan := l.simulate("orphan", v1alpha1.ParkingSimulationSpec{
		RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: l.secret("nowhere", "amqp://user:pa55word@127.0.0.1:1")}, Redis: v1alpha1.RedisSpec{SecretRef: store},
	})
	unreachable := l.expect(orphan, "BrokerReady", metav1.ConditionFalse, "Unreachable")
	if !strings.Contains(unreachable.Message, "nowhere") {
		t.Errorf("the message is %q, want the Secret named", unreachable.Message)
	}
	l.gone(orphan)
	if note := l.tells("orphan", "CleanupAbandoned", "parking."+plan.SimulationID(orphan)); !strings.Contains(note, "Secret nowhere") {
		t.Errorf("the event says %q, want where something may be left", note)
	}
}

// declareQueues makes the queues of a simulation, as its processes do.
func declareQueues(t *testing.T, uri string, sim *v1alpha1.ParkingSimulation) {
	t.Helper()
	p, err := plan.FromSimulation(sim)
	if err != nil {
		t.Fatal(err)
	}
	p.RabbitMQ = plan.Endpoint{URI: uri}
	b, err := wiring.OpenBroker(p, wiring.Options{Component: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Declare(t.Context()), b.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestPasswordsAreInSecretsAlone(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	l := newLot(t)
	l.startOperator("--cleanup-timeout", "3s")
	secrets := map[string]string{"refused": "r3fus3d-p4ssword", "faulty": "f4ulty-p4ssword", "far": "f4r-p4ssword"}
	sims := map[string]*v1alpha1.ParkingSimulation{}
	simulate := func(name string, broker, store *v1alpha1.SecretReference) {
		sims[name] = l.simulate(name, v1alpha1.ParkingSimulationSpec{
			RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: broker}, Redis: v1alpha1.RedisSpec{SecretRef: store},
		})
		servers.RemoveKeys(t, plan.SimulationID(sims[name]))
	}
	simulate("managed", nil, nil)
	simulate("right", l.secret("right-broker", amqp), l.secret("right-store", redis))
	simulate("refused", l.secret("refused-broker", withPassword(t, amqp, secrets["refused"])), l.secret("refused-store", withPassword(t, redis, secrets["refused"])))
	simulate("faulty", l.secret("faulty-broker", "amqp://user:"+secrets["faulty"]+"@[::1"), l.secret("faulty-store", "redis://:"+secrets["faulty"]+"@host:port"))
	simulate("far", l.secret("far-broker", "amqps://user:"+secrets["far"]+"@127.0.0.1:1"), l.secret("far-store", "rediss://:"+secrets["far"]+"@127.0.0.1:1"))

	l.expect(sims["managed"], "Ready", metav1.ConditionFalse, "Progressing")
	l.expect(sims["right"], "BrokerReady", metav1.ConditionTrue, "Ready")
	l.expect(sims["refused"], "StoreReady", metav1.ConditionFalse, "Unreachable")
	l.expect(sims["faulty"], "BrokerReady", metav1.ConditionFalse, "SecretInvalid")
	l.expect(sims["far"], "StoreReady", metav1.ConditionFalse, "Unreachable")
	l.settle()
	l.expect(sims["right"], "Ready", metav1.ConditionTrue, "Running")
	l.gone(sims["far"])
	l.tells("far", "CleanupAbandoned", "")

	for name, uri := range map[string]string{"the broker's": amqp, "the store's": redis} {
		secrets[name] = passwordOf(t, uri)
	}
	for _, name := range []string{"managed-rabbitmq", "managed-redis"} {
		secret := &corev1.Secret{}
		if err := l.client.Get(t.Context(), client.ObjectKey{Namespace: l.namespace, Name: name}, secret); err != nil {
			t.Fatal(err)
		}
		secrets[name] = string(secret.Data["password"])
		if cookie := string(secret.Data["erlang-cookie"]); cookie != "" {
			secrets["the cookie"] = cookie
		}
	}
	output, err := os.ReadFile(l.log)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"the log": string(output), "the objects": l.objects()}
	for where, text := range texts {
		const least = 2000
		if len(text) < least {
			t.Errorf("%s are only %q", where, text)
		}
		for whose, password := range secrets {
			for _, form := range []string{password, url.QueryEscape(password), base64.StdEncoding.EncodeToString([]byte(password))} {
				if at := strings.Index(text, form); password != "" && at >= 0 {
					t.Errorf("%s hold the password of %s: …%s", where, whose, text[max(0, at-200):at])
				}
			}
		}
	}
}

// objects are all objects of the namespace but Secrets, events among them, as kubectl get -o yaml shows them.
func (l *lot) objects() string {
	l.t.Helper()
	server, err := discovery.NewDiscoveryClientForConfig(l.env.Config)
	if err != nil {
		l.t.Fatal(err)
	}
	groups, err := server.ServerPreferredNamespacedResources()
	if err != nil {
		l.t.Fatal(err)
	}
	var all strings.Builder
	for _, group := range groups {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, resource := range group.APIResources {
			if resource.Kind == "Secret" || !slices.Contains(resource.Verbs, "list") {
				continue
			}
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(version.WithKind(resource.Kind))
			if err := l.client.List(l.t.Context(), list, client.InNamespace(l.namespace)); err != nil {
				l.t.Fatal(err)
			}
			text, err := yaml.Marshal(list.Items)
			if err != nil {
				l.t.Fatal(err)
			}
			all.Write(text)
		}
	}
	for _, kind := range []string{"kind: ParkingSimulation", "kind: Event", "kind: ConfigMap", "kind: StatefulSet", "kind: Deployment"} {
		if !strings.Contains(all.String(), kind) {
			l.t.Errorf("there is no %s among the objects", kind)
		}
	}
	return all.String()
}

func withPassword(t *testing.T, uri, password string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

func passwordOf(t *testing.T, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	password, _ := u.User.Password()
	return password
}
