//go:build !nooperator

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/controllers"
	"github.com/parking-operator/parking-operator/internal/manifest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
	"github.com/parking-operator/parking-operator/internal/resources"
	"github.com/parking-operator/parking-operator/internal/wiring"
	"github.com/parking-operator/parking-operator/test/apiserver"
	"github.com/parking-operator/parking-operator/test/servers"
)

// lot is a test cluster that runs an operator in a separate process. It has an API server, but no nodes.
type lot struct {
	*apiserver.Cluster

	log     string // the path of the operator's log file
	metrics string // the address of the operator's metrics endpoint
}

func newLot(t *testing.T) *lot {
	t.Helper()
	l := &lot{Cluster: apiserver.New(t), log: filepath.Join(t.TempDir(), "operator.log")}
	t.Cleanup(func() {
		if text, err := os.ReadFile(l.log); err == nil && t.Failed() {
			t.Logf("the operator's log ends with:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return l
}

// startOperator starts the operator in a separate process and stops it when the test ends.
func (l *lot) startOperator(args ...string) {
	l.T.Helper()
	l.metrics = servers.FreeAddress(l.T)
	args = append([]string{
		"operator", "--namespaces", l.Namespace, "--leader-elect=false", "--health-address", "0", "--metrics-insecure", "--metrics-address", l.metrics, "--log-level", "debug",
	}, args...)
	l.process(l.log, []string{"KUBECONFIG=" + file(l.T, "kubeconfig", string(l.KubeConfig))}, args...)
}

// process starts a command in a separate process, which ends at the latest when the test ends. Its exit code must be 0.
func (l *lot) process(log string, env []string, args ...string) (stop func()) {
	l.T.Helper()
	output, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		l.T.Fatal(err)
	}
	defer func() { _ = output.Close() }() // the child process has its own copy of the file descriptor
	cmd := exec.Command(binary(l.T), args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		l.T.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails only if the process has already ended
		if err := cmd.Wait(); err != nil {
			text, _ := os.ReadFile(log)
			l.T.Errorf("%q ended with %v:\n%s", args, err, text[max(0, len(text)-4000):])
		}
	}
	l.T.Cleanup(stop)
	return stop
}

func (l *lot) secret(name, uri string) *v1alpha1.SecretReference {
	l.T.Helper()
	_, ref := l.Secret(name, map[string]string{"uri": uri})
	return ref
}

func (l *lot) simulate(name string, spec v1alpha1.ParkingSimulationSpec) *v1alpha1.ParkingSimulation {
	l.T.Helper()
	return l.Simulate(name, func(s *v1alpha1.ParkingSimulationSpec) { *s = spec })
}

// gone deletes a simulation and waits until the API server no longer has it.
func (l *lot) gone(sim *v1alpha1.ParkingSimulation) {
	l.T.Helper()
	l.Delete(sim, sim.Name)
	l.Gone(sim)
}

func (l *lot) pod(sim *v1alpha1.ParkingSimulation, c resources.Component, ip string) *corev1.Pod {
	l.T.Helper()
	return l.Pod(sim, c, func(s *corev1.PodStatus) { s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}} })
}

// mountPlan writes the plan of the simulation to a file, and again after each change. Before each write, the function
// edit can modify the plan.
func (l *lot) mountPlan(sim *v1alpha1.ParkingSimulation, edit func(*plan.Plan)) string {
	l.T.Helper()
	path, written := filepath.Join(l.T.TempDir(), "plan.json"), ""
	// The test may change sim while the function mount runs, so compute the key now.
	key := client.ObjectKey{Namespace: sim.Namespace, Name: resources.PlanName(sim)}
	mount := func(ctx context.Context) error {
		config := &corev1.ConfigMap{}
		if err := l.Client.Get(ctx, key, config); err != nil {
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
		return plantest.Write(p, path)
	}
	l.Eventually("the plan", func() error { return mount(l.T.Context()) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
				_ = mount(ctx) // after an error, the loop retries
			}
		}
	}()
	l.T.Cleanup(func() { cancel(); <-ended })
	return path
}

// address returns a loopback address at which port 8080 is free. All pods listen on this port, so each pod needs its
// own address.
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

func TestOperator_RealServers_RunsASimulation(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	l := newLot(t)
	l.startOperator()
	sim := l.simulate("rush", v1alpha1.ParkingSimulationSpec{
		Duration: v1alpha1.NewDuration(15 * time.Second),
		Entry:    v1alpha1.EntrySpec{Rate: new(int32(100))},
		Exit:     v1alpha1.ExitSpec{Rate: new(int32(80)), MatchPercent: new(int32(50)), MinStay: v1alpha1.NewDuration(200 * time.Millisecond)},
		RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: l.secret("broker", amqp)},
		Redis:    v1alpha1.RedisSpec{SecretRef: l.secret("store", redis)},
		Objectives: v1alpha1.ObjectivesSpec{PhaseObjectivesSpec: v1alpha1.PhaseObjectivesSpec{
			ProcessingP99: v1alpha1.NewDuration(time.Minute), EndToEndP99: v1alpha1.NewDuration(time.Minute),
		}},
	})
	id := manifest.ID(sim)
	servers.RemoveKeys(t, id)
	removeQueues(t, amqp, id)

	processor, summaries := address(t, 1), address(t, 2)
	planFile := l.mountPlan(sim, func(p *plan.Plan) {
		p.RabbitMQ, p.Redis = plan.BindingRef{URI: amqp}, plan.BindingRef{URI: redis}
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

	l.Expect(sim, "BrokerReady", metav1.ConditionTrue, "Ready")
	l.Expect(sim, "StoreReady", metav1.ConditionTrue, "Ready")
	l.MakeWorkloadsReady()
	l.Eventually("the ledger counts processed events", func() error {
		if err := l.Client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil {
			return err
		}
		if sim.Status.Ledger == nil || sim.Status.Ledger.Processed == 0 {
			return fmt.Errorf("it is %+v", sim.Status.Ledger)
		}
		return nil
	})
	l.Expect(sim, "Complete", metav1.ConditionFalse, "StoppingGenerators")
	for _, stop := range generators {
		stop()
	}
	l.Eventually("the operator has stopped the generators", func() error {
		l.MakeWorkloadsReady()
		c := meta.FindStatusCondition(sim.Status.Conditions, "Complete")
		if err := l.Client.Get(t.Context(), client.ObjectKeyFromObject(sim), sim); err != nil || c.Reason == "StoppingGenerators" {
			return fmt.Errorf("it is %v: %w", c, err)
		}
		return nil
	})
	l.Expect(sim, "Complete", metav1.ConditionTrue, "Complete")
	// On a busy machine, the generators may be too slow to publish on schedule, so the checks of the schedules may
	// fail. All other checks must pass.
	isLate := func(reason string) bool { return strings.Contains(reason, "the schedule of the") }
	verdict, state, reason := v1alpha1.VerdictPass, metav1.ConditionTrue, "Met"
	if slices.ContainsFunc(sim.Status.Reasons, isLate) {
		verdict, state, reason = v1alpha1.VerdictFail, metav1.ConditionFalse, "NotMet"
	}
	met := l.Expect(sim, "ObjectivesMet", state, reason)
	t.Log(met.Message)
	status := sim.Status
	unexpected := slices.DeleteFunc(slices.Clone(status.Reasons), isLate)
	if status.Verdict != verdict || len(unexpected) > 0 || status.Latency == nil ||
		status.Latency.Processing == nil || status.Latency.Processing.P99.Value() <= 0 || !strings.Contains(met.Message, string(status.Latency.EndToEnd.P99)) {
		t.Errorf("the status is %+v, want verdict %s, latencies, and the end-to-end p99 in the message %q", status, verdict, met.Message)
	}
	if l := status.Ledger; l.Lost == nil || *l.Lost != 0 || l.EntriesConfirmed == 0 || l.EntriesConfirmed != l.EntriesRecorded || l.Matched == 0 || l.Matched != l.SummariesStored {
		t.Errorf("the ledger is %+v, want a ledger that balances", l)
	}
	const metric = `parking_simulation_%s{namespace=%q,simulation="rush"%s} %d`
	for _, want := range []string{
		fmt.Sprintf(metric, "lost", l.Namespace, "", 0),
		fmt.Sprintf(metric, "processed", l.Namespace, "", status.Ledger.Processed),
		fmt.Sprintf(metric, "condition", l.Namespace, `,type="ObjectivesMet"`, map[bool]int{true: 1}[state == metav1.ConditionTrue]),
	} {
		l.Eventually("the metric "+want, func() error { return l.exports(want) })
	}

	if keys, queues := keysOf(t, redis, id), queuesOf(t, amqp, id, 1); len(keys) == 0 || len(queues) == 0 {
		t.Errorf("there are the keys %q and the queues %q, want some of each", keys, queues)
	}
	for _, pod := range pods { // delete the pods, as controllers and the kubelet would do in a cluster
		if err := l.Client.Delete(t.Context(), pod); err != nil {
			t.Error(err)
		}
	}
	l.gone(sim)
	if keys, queues := keysOf(t, redis, id), queuesOf(t, amqp, id, 1); len(keys) > 0 || len(queues) > 0 {
		t.Errorf("the keys %q and the queues %q are left", keys, queues)
	}
	l.AwaitEvent(sim, "CleanedUp", id)
}

// exports returns an error if the metrics endpoint of the operator does not return the given sample.
func (l *lot) exports(want string) error {
	request, err := http.NewRequestWithContext(l.T.Context(), http.MethodGet, "http://"+l.metrics+"/metrics", http.NoBody)
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
		return errors.New("the sample is missing")
	}
	return nil
}

func TestOperator_SimulationDeleted_FollowsDeletionPolicy(t *testing.T) {
	t.Parallel()
	amqp, redis := servers.VHostURI(t), servers.RedisURI(t)
	l := newLot(t)
	l.startOperator("--cleanup-timeout", "10s")
	store := l.secret("store", redis)

	kept := l.simulate("kept", v1alpha1.ParkingSimulationSpec{
		RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: l.secret("broker", amqp)}, Redis: v1alpha1.RedisSpec{SecretRef: store},
		DeletionPolicy: v1alpha1.DeletionPolicyRetain,
	})
	id := manifest.ID(kept)
	servers.RemoveKeys(t, id)
	removeQueues(t, amqp, id)
	key := "parking:{" + id + ":0}:ledger"
	if err := redisClient(t, redis).HSet(t.Context(), key, "test", "1").Err(); err != nil {
		t.Fatal(err)
	}
	declareQueues(t, amqp, kept)
	l.Expect(kept, "BrokerReady", metav1.ConditionTrue, "Ready")
	l.gone(kept)
	if keys, queues := keysOf(t, redis, id), queuesOf(t, amqp, id, 1); !slices.Contains(keys, key) || len(queues) == 0 {
		t.Errorf("the keys are %q and the queues %q, want all of them retained", keys, queues)
	}

	orphan := l.simulate("orphan", v1alpha1.ParkingSimulationSpec{
		RabbitMQ: v1alpha1.RabbitMQSpec{SecretRef: l.secret("nowhere", "amqp://user:pa55word@127.0.0.1:1")}, Redis: v1alpha1.RedisSpec{SecretRef: store},
	})
	unreachable := l.Expect(orphan, "BrokerReady", metav1.ConditionFalse, "Unreachable")
	if !strings.Contains(unreachable.Message, "nowhere") {
		t.Errorf("the message is %q, want the name of the Secret", unreachable.Message)
	}
	l.gone(orphan)
	if note := l.AwaitEvent(orphan, "CleanupAbandoned", "parking."+manifest.ID(orphan)); !strings.Contains(note, "/nowhere)") {
		t.Errorf("the event says %q, want the Secret of the server on which data may remain", note)
	}
}

func declareQueues(t *testing.T, uri string, sim *v1alpha1.ParkingSimulation) {
	t.Helper()
	resolved, faults := manifest.Resolve(sim)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	p := resolved.Plan
	p.RabbitMQ = plan.BindingRef{URI: uri}
	b, err := wiring.OpenBroker(p, wiring.Options{Component: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Declare(t.Context()), b.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOperator_Passwords_AppearOnlyInSecrets(t *testing.T) {
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
		servers.RemoveKeys(t, manifest.ID(sims[name]))
	}
	simulate("managed", nil, nil)
	simulate("right", l.secret("right-broker", amqp), l.secret("right-store", redis))
	simulate("refused", l.secret("refused-broker", withPassword(t, amqp, secrets["refused"])), l.secret("refused-store", withPassword(t, redis, secrets["refused"])))
	simulate("faulty", l.secret("faulty-broker", "amqp://user:"+secrets["faulty"]+"@[::1"), l.secret("faulty-store", "redis://:"+secrets["faulty"]+"@host:port"))
	simulate("far", l.secret("far-broker", "amqps://user:"+secrets["far"]+"@127.0.0.1:1"), l.secret("far-store", "rediss://:"+secrets["far"]+"@127.0.0.1:1"))

	l.Expect(sims["managed"], "Ready", metav1.ConditionFalse, "Progressing")
	l.Expect(sims["right"], "BrokerReady", metav1.ConditionTrue, "Ready")
	l.Expect(sims["refused"], "StoreReady", metav1.ConditionFalse, "Unreachable")
	l.Expect(sims["faulty"], "BrokerReady", metav1.ConditionFalse, "SecretInvalid")
	l.Expect(sims["far"], "StoreReady", metav1.ConditionFalse, "Unreachable")
	l.MakeWorkloadsReady()
	l.Expect(sims["right"], "Ready", metav1.ConditionTrue, "Running")
	l.gone(sims["far"])
	l.AwaitEvent(sims["far"], "CleanupAbandoned", "")

	for name, uri := range map[string]string{"the broker's": amqp, "the store's": redis} {
		secrets[name] = passwordOf(t, uri)
	}
	for _, name := range []string{"managed-rabbitmq", "managed-redis"} {
		secret := &corev1.Secret{}
		if err := l.Client.Get(t.Context(), client.ObjectKey{Namespace: l.Namespace, Name: name}, secret); err != nil {
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
			t.Errorf("%s: the text is only %q", where, text)
		}
		for whose, password := range secrets {
			for _, form := range []string{password, url.QueryEscape(password), base64.StdEncoding.EncodeToString([]byte(password))} {
				if at := strings.Index(text, form); password != "" && at >= 0 {
					t.Errorf("%s: the text contains the password of %s, after: …%s", where, whose, text[max(0, at-200):at])
				}
			}
		}
	}
}

// objects returns all objects in the namespace, except Secrets, as YAML.
func (l *lot) objects() string {
	l.T.Helper()
	server, err := discovery.NewDiscoveryClientForConfig(l.Config)
	if err != nil {
		l.T.Fatal(err)
	}
	groups, err := server.ServerPreferredNamespacedResources()
	if err != nil {
		l.T.Fatal(err)
	}
	var all strings.Builder
	for _, group := range groups {
		version, err := schema.ParseGroupVersion(group.GroupVersion)
		if err != nil {
			l.T.Fatal(err)
		}
		for _, resource := range group.APIResources {
			if resource.Kind == "Secret" || !slices.Contains(resource.Verbs, "list") {
				continue
			}
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(version.WithKind(resource.Kind))
			if err := l.Client.List(l.T.Context(), list, client.InNamespace(l.Namespace)); err != nil {
				l.T.Fatal(err)
			}
			text, err := yaml.Marshal(list.Items)
			if err != nil {
				l.T.Fatal(err)
			}
			all.Write(text)
		}
	}
	for _, kind := range []string{"kind: ParkingSimulation", "kind: Event", "kind: ConfigMap", "kind: StatefulSet", "kind: Deployment"} {
		if !strings.Contains(all.String(), kind) {
			l.T.Errorf("there is no %s among the objects", kind)
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

func TestOperator_WithoutCluster_PrintsErrorOnOneLine(t *testing.T) {
	t.Parallel()
	faulty := file(t, "kubeconfig", "{")
	none := filepath.Join(t.TempDir(), "none")
	for name, test := range map[string]struct{ kubeconfig, host, says string }{
		"there is no kubeconfig":        {none, "", "set KUBECONFIG to a kubeconfig file"},
		"the kubeconfig cannot be read": {faulty, "", faulty},
		"the pod has no token":          {none, "127.0.0.1", "check that the token of the pod's service account is mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount/token"); err == nil && test.host != "" {
				t.Skip("these tests run in a pod that has a token")
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := &running{cmd: command(ctx, t, "operator")}
			r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
			r.checkTempFiles(t)
			r.cmd.Env = append(r.cmd.Env, "KUBECONFIG="+test.kubeconfig, "HOME="+t.TempDir(), "KUBERNETES_SERVICE_HOST="+test.host, "KUBERNETES_SERVICE_PORT=443")
			if err := r.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			got := wait(t, r)
			if got.code != exitBadInput || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, test.says) {
				t.Errorf("exit code %d, want %d and one line that says %q: %s", got.code, exitBadInput, test.says, got.stderr)
			}
		})
	}
}

func TestPodLock_IdentityIsThePodName(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		flags operatorFlags
		pod   string
		want  string // namespace/name of the Lease, and the identity of its holder; empty if podLock returns nil
	}{
		{"in a pod", operatorFlags{leaderElect: true, namespace: "system"}, "operator-0", "system/operator.simulation.parking.dev operator-0"},
		{"the Lease is in another namespace than the pod", operatorFlags{leaderElect: true, namespace: "system", leaderNamespace: "leases"}, "operator-0", "leases/operator.simulation.parking.dev operator-0"},
		{"outside a pod", operatorFlags{leaderElect: true, leaderNamespace: "leases"}, "", ""},
		{"the namespace of the Lease is unknown", operatorFlags{leaderElect: true}, "operator-0", ""},
		{"leader election is disabled", operatorFlags{namespace: "system"}, "operator-0", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			lock, err := tt.flags.podLock(&rest.Config{Host: "http://127.0.0.1:1"}, tt.pod)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if lock != nil {
				got = lock.Describe() + " " + lock.Identity()
			}
			if got != tt.want {
				t.Errorf("the lock is %q, want %q", got, tt.want)
			}
		})
	}
}

// optionsOf parses flags of 'parking operator' and returns the resulting options of the manager.
func optionsOf(t *testing.T, args ...string) controllers.ManagerOptions {
	t.Helper()
	f, cmd := &operatorFlags{}, &cobra.Command{}
	f.register(cmd, func(string) string { return "" })
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return f.options(slog.New(slog.DiscardHandler))
}

func TestOperatorOptions_TemplateAndPriorityClassFlags_SetTheManagerOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args  []string
		allow bool
		class string
	}{
		{nil, false, ""},
		{[]string{"--allow-privileged-templates"}, true, ""},
		{[]string{"--priority-class", "parking-operator"}, false, "parking-operator"},
	} {
		if o := optionsOf(t, tt.args...); o.AllowPrivilegedTemplates != tt.allow || o.PriorityClass != tt.class {
			t.Errorf("with the flags %q, privileged templates are allowed: %t, and the priority class is %q; want %t and %q",
				tt.args, o.AllowPrivilegedTemplates, o.PriorityClass, tt.allow, tt.class)
		}
	}
}

// The operator must not exit while an API server restarts or is busy.
func TestLeaderElection_DefaultDurations_OutlastARestartOfTheAPIServer(t *testing.T) {
	t.Parallel()
	m := optionsOf(t).Manager
	if m.LeaseDuration == nil || m.RenewDeadline == nil || m.RetryPeriod == nil {
		t.Fatal("the options leave a time of leader election at the manager's default")
	}
	lease, renew, retry := *m.LeaseDuration, *m.RenewDeadline, *m.RetryPeriod
	if renew < 45*time.Second || lease <= renew+retry {
		t.Errorf("the leader must renew within %s and tries every %s, and its Lease lasts %s; want at least 45s, and a Lease that outlasts the deadline", renew, retry, lease)
	}
	text, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("renew its Lease for %.0f s", renew.Seconds()); !strings.Contains(string(text), want) {
		t.Errorf("%s does not say %q", troubleshooting, want)
	}
}
