package rehearsal_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/fault"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/resources"
)

// at returns a function that sets the status of a pod: the pod is ready and has the given IP address.
func at(ip string) func(*corev1.PodStatus) {
	return func(s *corev1.PodStatus) {
		ready(time.Now().Add(-time.Hour))(s)
		s.PodIP, s.PodIPs = ip, []corev1.PodIP{{IP: ip}}
	}
}

// lyingAgent serves an agent at an IP address. The agent answers that it has injected each fault, but does nothing.
func (w *world) lyingAgent(t *testing.T, ip string) {
	t.Helper()
	injected := time.Now()
	w.handle(t, ip, http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(response).Encode(agent.Fault{At: injected})
	}))
}

// serveHTTP serves the handler at a port of a pod, until the test ends.
func (w *world) serveHTTP(t *testing.T, ip string, port int32, handler http.HandlerFunc) {
	t.Helper()
	w.serveHTTPAt(t, w.listen(t, ip, port), handler)
}

// serveHTTPAt serves the handler at the listener until the test ends. It uses TLS if w.https is true.
func (w *world) serveHTTPAt(t *testing.T, listener net.Listener, handler http.HandlerFunc) {
	t.Helper()
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: handler}
	if w.https {
		listener = tls.NewListener(listener, w.tlsConfig(t))
	}
	go func() { _ = server.Serve(listener) }() // returns when the server is closed
	t.Cleanup(func() { _ = server.Close() })
}

// serveReply serves a server at a port of a pod, until the test ends. The server replies to the first bytes that it
// receives.
func (w *world) serveReply(t *testing.T, ip string, port int32, reply string) {
	t.Helper()
	listener := w.listen(t, ip, port)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if _, err := c.Read(make([]byte, 8)); err == nil {
					_, _ = io.WriteString(c, reply)
				}
			}()
		}
	}()
}

func ok(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, httpserver.OK) }

// failing returns a readiness handler that reports that the given servers cannot be used.
func failing(servers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, server := range servers {
			fmt.Fprintf(w, "%s: the connection is closed\n", server)
		}
	}
}

func TestRehearsals_AgentOnlyClaimsToInject_FaultCountsAsNotInjected(t *testing.T) {
	number := 0
	for _, tt := range []struct {
		target plan.FaultTarget
		action plan.FaultAction
		// serve starts, in the target's pod, the program that answers the operator's probe.
		serve func(t *testing.T, w *world, ip string)
		want  string
		https bool
	}{
		{plan.TargetProcessor, plan.ActionPause, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, resources.HTTPPort, ok) }, "the process answers requests", false},
		{plan.TargetEntryGenerator, plan.ActionPause, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, resources.HTTPPort, ok) }, "the process answers requests", false},
		{plan.TargetSummaryAPI, plan.ActionPause, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, resources.HTTPPort, ok) }, "the process answers requests", false},
		{plan.TargetRedis, plan.ActionPause, func(t *testing.T, w *world, ip string) { w.serveReply(t, ip, 6379, "-NOAUTH\r\n") }, "the server answers clients", false},
		{plan.TargetRabbitMQ, plan.ActionPause, func(t *testing.T, w *world, ip string) { w.serveReply(t, ip, 5672, "\x01") }, "the server answers clients", false},
		{plan.TargetRabbitMQ, plan.ActionIsolate, func(t *testing.T, w *world, ip string) { w.serveReply(t, ip, relayPort, "\x01") }, "the server answers clients", false},
		{plan.TargetRedis, plan.ActionIsolate, func(t *testing.T, w *world, ip string) { w.serveReply(t, ip, relayPort, "+PONG\r\n") }, "the server answers clients", false},
		{plan.TargetSummaryAPI, plan.ActionIsolate, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, relayPort, ok) }, "the process answers requests", false},
		{plan.TargetProcessor, plan.ActionIsolate, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, resources.HTTPPort, ok) }, "the readiness check still reaches RabbitMQ and Redis", false},
		{plan.TargetExitGenerator, plan.ActionIsolate, func(t *testing.T, w *world, ip string) {
			w.serveHTTP(t, ip, resources.HTTPPort, failing("RabbitMQ"))
		}, "the readiness check still reaches Redis", false},
		{plan.TargetSummaryAPI, plan.ActionPause, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, resources.HTTPPort, ok) }, "the process answers requests", true},
		{plan.TargetEntryGenerator, plan.ActionPause, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, resources.HTTPPort, ok) }, "the process answers requests", true},
		{plan.TargetProcessor, plan.ActionIsolate, func(t *testing.T, w *world, ip string) { w.serveHTTP(t, ip, resources.HTTPPort, ok) }, "the readiness check still reaches RabbitMQ and Redis", true},
	} {
		number++
		ip := func(n int) string { return fmt.Sprintf("127.77.%d.%d", 100+number, n) }
		t.Run(fmt.Sprintf("%s of %s, HTTPS %t", tt.action, tt.target, tt.https), func(t *testing.T) {
			w := newWorld(t, plan.Fault{Name: "fault", Target: tt.target, Action: tt.action, Instances: 1, For: plan.Duration(time.Hour)})
			w.timeouts.Probe = time.Minute // generous, because a busy machine answers slowly
			if w.https = tt.https; w.https {
				w.sim.Spec.Monitoring.TLS, w.sim.Spec.SummaryAPI.Managed = &v1alpha1.TLSSpec{}, &v1alpha1.ManagedSummaryAPI{TLS: &v1alpha1.TLSSpec{}}
			}
			component := resources.ComponentOf(tt.target)
			for n, server := range resources.Servers() {
				if server != component {
					w.Pod(w.sim, server, at(ip(10+n)))
					w.lyingAgent(t, ip(10+n))
				}
			}
			w.Pod(w.sim, component, at(ip(1)))
			w.lyingAgent(t, ip(1))
			tt.serve(t, w, ip(1))
			r, _ := w.lead()
			got := w.await(r, fault.NotInjected)
			if !strings.Contains(got.Reason, "the target works") || !strings.Contains(got.Reason, tt.want) {
				t.Errorf("the reason is %q, want a reason that contains %q", got.Reason, tt.want)
			}
		})
	}
}

// A probe must not follow a redirect. Otherwise, the author of a simulation could make the operator send requests to
// addresses that only the operator can reach.
func TestRehearsals_PodRedirectsProbe_RedirectIsNotFollowed(t *testing.T) {
	var requests atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer elsewhere.Close()
	w := newWorld(t, plan.Fault{Name: "pause", Target: plan.TargetProcessor, Action: plan.ActionPause, Instances: 1, For: plan.Duration(time.Hour)})
	const processor = "127.77.124.1"
	w.Pod(w.sim, resources.ComponentProcessor, at(processor))
	w.lyingAgent(t, processor)
	var probes atomic.Int64
	w.serveHTTP(t, processor, resources.HTTPPort, func(w http.ResponseWriter, r *http.Request) {
		probes.Add(1)
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	})
	r, _ := w.lead()
	w.await(r, fault.Active)
	if probes.Load() == 0 || requests.Load() != 0 {
		t.Errorf("the pod received %d requests, and the target of the redirect %d", probes.Load(), requests.Load())
	}
}

// The responses below do not prove that the processor can use RabbitMQ or Redis during the fault. So the fault counts
// as injected.
func TestRehearsals_InconclusiveProbe_FaultCountsAsInjected(t *testing.T) {
	answers := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"both checks fail":                 failing("RabbitMQ", "Redis"),
		"another check fails":              failing("process"),
		"a proxy has no upstream":          answers(http.StatusServiceUnavailable, "upstream connect error\n"),
		"a proxy answers by itself":        answers(http.StatusOK, "<html>RabbitMQ</html>\n"),
		"another program answers with 404": answers(http.StatusNotFound, "Redis: 404\n"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, plan.Fault{Name: "cut", Target: plan.TargetProcessor, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Hour)})
			const processor = "127.77.120.1"
			for n, c := range resources.Servers() {
				w.relayed(t, c, fmt.Sprintf("127.77.120.%d", 10+n))
			}
			w.Pod(w.sim, resources.ComponentProcessor, at(processor))
			w.serveHTTP(t, processor, resources.HTTPPort, handler)
			r, _ := w.lead()
			w.await(r, fault.Active)
		})
	}
}

// The processor's connections do not come from the address of its pod, for example because the network translates
// addresses. So the agents find no connection to cut.
func TestRehearsals_IsolationCutsNoConnection_FaultCountsAsNotInjected(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "cut", Target: plan.TargetProcessor, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(2 * time.Second)})
	const processor, translated = "127.77.121.1", "127.77.121.2"
	var servers []string
	for n, c := range resources.Servers() {
		servers = append(servers, w.relayed(t, c, fmt.Sprintf("127.77.121.%d", 10+n)))
	}
	w.Pod(w.sim, resources.ComponentProcessor, at(processor))
	r, _ := w.lead()
	w.Eventually("the fault to be in effect", func() error {
		if states := w.reported(); !slices.Contains(states, fault.Active) {
			return fmt.Errorf("the states %v were reported", states)
		}
		return nil
	})
	if !connects(t, translated, servers[0]) {
		t.Error("the processor is cut off")
	}
	got := w.await(r, fault.NotInjected)
	if !strings.Contains(got.Reason, "saw no connection") || !got.InjectedAt.IsZero() {
		t.Errorf("the record is %+v", got)
	}
}

// Agents of an earlier version do not report how many connections they have cut. So the operator cannot conclude that
// the isolation had no effect.
func TestRehearsals_AgentsDoNotCountConnections_FaultCountsAsInjected(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "cut", Target: plan.TargetProcessor, Action: plan.ActionIsolate, Instances: 1, For: plan.Duration(time.Second)})
	injected := time.Now()
	earlier := http.HandlerFunc(func(response http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(response, `{"at":%q,"healed":%q}`, injected.Format(time.RFC3339Nano), injected.Add(time.Second).Format(time.RFC3339Nano))
	})
	for n, c := range resources.Servers() {
		ip := fmt.Sprintf("127.77.125.%d", 10+n)
		w.Pod(w.sim, c, at(ip))
		w.handle(t, ip, earlier)
	}
	w.Pod(w.sim, resources.ComponentProcessor, at("127.77.125.1"))
	r, _ := w.lead()
	w.await(r, fault.Healed)
}

// The kubelet starts a paused container again after its liveness probe has failed. The new processes are not paused.
func TestRehearsals_PausedContainerIsRestarted_FaultIsAborted(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "pause", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, For: plan.Duration(time.Hour)})
	_, _, status := w.serveAgent(t, "127.77.123.1")
	pod := w.Pod(w.sim, resources.ComponentRedis, status)
	r, _ := w.lead()
	w.await(r, fault.Active)
	w.restarted(pod)
	if got := w.await(r, fault.Aborted); !strings.Contains(got.Reason, "was restarted during the pause") {
		t.Errorf("the reason is %q", got.Reason)
	}
}

// The agent of the target is closed during the pause. This ends the pause long before the declared duration, so the
// fault must become Aborted.
func TestRehearsals_PauseEndsEarly_FaultIsAborted(t *testing.T) {
	w := newWorld(t, plan.Fault{Name: "pause", Target: plan.TargetRedis, Action: plan.ActionPause, Instances: 1, For: plan.Duration(time.Hour)})
	a, _, status := w.serveAgent(t, "127.77.122.1")
	w.Pod(w.sim, resources.ComponentRedis, status)
	r, _ := w.lead()
	w.await(r, fault.Active)
	a.Close()
	if got := w.await(r, fault.Aborted); !strings.Contains(got.Reason, "instead of 1h, ") {
		t.Errorf("the reason is %q", got.Reason)
	}
}
