package agent

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/agent/agenttest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/relay"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// target is a shell with one child process. Agents inject faults into both processes.
type target struct{ *agenttest.Target }

func startTarget(t *testing.T) *target {
	t.Helper()
	s := &target{agenttest.Start(t, "sh", "-c", "sleep 300 & wait")}
	polltest.Until(t, "both processes sleep", func() bool { return s.allAre(t, "S") })
	return s
}

// states returns the state of each process from /proc/PID/stat: S means sleeping, T means suspended by SIGSTOP.
func (s *target) states(t *testing.T) []string {
	t.Helper()
	all, err := find(s.Path)
	if err != nil {
		return nil
	}
	defer all.close()
	var states []string
	for _, p := range all {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			continue
		}
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		states = append(states, string(rest[:1]))
	}
	return states
}

func (s *target) allAre(t *testing.T, state string) bool {
	t.Helper()
	states := s.states(t)
	return len(states) == 2 && states[0] == state && states[1] == state
}

func newAgent(t *testing.T, target string) *Agent {
	t.Helper()
	a := New(Config{Target: target}, slog.New(slog.DiscardHandler))
	t.Cleanup(a.Close)
	return a
}

func TestAgent_Kill_EndsOnlyProcessesOfTheTarget(t *testing.T) {
	s, other := startTarget(t), startTarget(t)
	a := newAgent(t, s.Path)
	f, err := a.Inject(Command{ID: "crash/0", Action: plan.ActionKill})
	if err != nil {
		t.Fatal(err)
	}
	if f.At.IsZero() {
		t.Error("the fault has no time")
	}
	polltest.Until(t, "all processes have ended", func() bool { return len(s.states(t)) == 0 })
	s.AwaitKilled(t)
	if len(other.states(t)) != 2 {
		t.Error("processes of another target ended")
	}
}

func TestAgent_Pause_EndsAfterItsDuration(t *testing.T) {
	s := startTarget(t)
	a := newAgent(t, s.Path)
	if _, err := a.Inject(Command{ID: "pause/0", Action: plan.ActionPause, For: 300 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the target runs again", func() bool { return s.allAre(t, "S") })
	f, ok := a.Fault("pause/0")
	if !ok || f.Healed.Sub(f.At) < 300*time.Millisecond {
		t.Errorf("the fault is %+v, %t", f, ok)
	}
}

func TestAgent_PauseCancelled_ResumesTheTarget(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, a *Agent, s *target)
	}{
		{"WhenThePauseIsHealed", func(_ *testing.T, a *Agent, _ *target) { a.Heal("pause/0") }},
		{"WhenTheAgentCloses", func(_ *testing.T, a *Agent, _ *target) { a.Close() }},
		{"WhenTheNextAgentStarts", func(t *testing.T, _ *Agent, s *target) { newAgent(t, s.Path) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startTarget(t)
			a := newAgent(t, s.Path)
			if _, err := a.Inject(Command{ID: "pause/0", Action: plan.ActionPause, For: time.Minute}); err != nil {
				t.Fatal(err)
			}
			polltest.Until(t, "the target is stopped", func() bool { return s.allAre(t, "T") })
			tt.end(t, a, s)
			polltest.Until(t, "the target runs again", func() bool { return s.allAre(t, "S") })
		})
	}
}

func TestAgent_RepeatedCommand_HasNoEffect(t *testing.T) {
	s := startTarget(t)
	a := newAgent(t, s.Path)
	command := Command{ID: "pause/0", Action: plan.ActionPause, For: time.Minute}
	first, err := a.Inject(command)
	if err != nil {
		t.Fatal(err)
	}
	a.Heal("pause/0")
	second, err := a.Inject(command)
	if err != nil {
		t.Fatal(err)
	}
	if !second.At.Equal(first.At) || second.Healed.IsZero() {
		t.Errorf("the second answer is %+v, the first was %+v", second, first)
	}
	polltest.Until(t, "the target runs", func() bool { return s.allAre(t, "S") })
}

// A request to end a fault can overtake the command to inject the fault. The agent must then ignore the late
// command.
func TestAgent_HealBeforeInject_FaultIsNeverInjected(t *testing.T) {
	s := startTarget(t)
	a := newAgent(t, s.Path)
	a.Heal("pause/0")
	if _, err := a.Inject(Command{ID: "pause/0", Action: plan.ActionPause, For: time.Minute}); !isRejected(err) {
		t.Errorf("Inject after Heal: %v", err)
	}
	if f, ok := a.Fault("pause/0"); ok {
		t.Errorf("the fault is %+v", f)
	}
	polltest.Until(t, "the target runs", func() bool { return s.allAre(t, "S") })
	if _, err := a.Inject(Command{ID: "pause/1", Action: plan.ActionPause, For: time.Minute}); err != nil {
		t.Errorf("Inject of another fault: %v", err)
	}
}

func TestAgent_InvalidCommand_IsRejected(t *testing.T) {
	a := newAgent(t, "no-such-target")
	for _, c := range []Command{
		{Action: plan.ActionKill},
		{ID: strings.Repeat("x", 201), Action: plan.ActionKill},
		{ID: "a/0", Action: plan.ActionEvict},
		{ID: "a/0", Action: plan.ActionPause},
		{ID: "a/0", Action: plan.ActionPause, For: -time.Second},
		{ID: "a/0", Action: plan.ActionPause, For: MaxLength + 1},
		{ID: "a/0", Action: plan.ActionIsolate, For: time.Second}, // an agent without a relay rejects Isolate
	} {
		if _, err := a.Inject(c); !isRejected(err) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := a.Inject(Command{ID: "a/0", Action: plan.ActionKill}); err == nil || isRejected(err) {
		t.Errorf("Inject into a target without processes: %v", err)
	}
	if _, ok := a.Fault("a/0"); ok {
		t.Error("the agent remembers a fault that it did not inject")
	}
}

func TestAgentInject_SecondPause_ReturnsErrBusyUntilTheFirstPauseEnds(t *testing.T) {
	s := startTarget(t)
	a := newAgent(t, s.Path)
	if _, err := a.Inject(Command{ID: "pause/0", Action: plan.ActionPause, For: time.Minute}); err != nil {
		t.Fatal(err)
	}
	second := Command{ID: "pause/1", Action: plan.ActionPause, For: time.Minute}
	if _, err := a.Inject(second); !errors.Is(err, ErrBusy) {
		t.Errorf("the second pause: %v", err)
	}
	a.Heal("pause/0")
	if _, err := a.Inject(second); err != nil {
		t.Error(err)
	}
}

// A pod template can give the target another user. The kernel does not permit the agent to signal processes of this
// user.
func TestAgentStop_TargetOfAnotherUser_ErrorSaysThatTheUsersMustBeTheSame(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the user of a thread")
	}
	s := startTarget(t)
	err := asNobody(func() error {
		_, err := stop(s.Path)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "the agent and the target must have the same user") {
		t.Errorf("the error is %v", err)
	}
	polltest.Until(t, "the target runs", func() bool { return s.allAre(t, "S") })
}

// The kubelet executes the commands of probes and hooks in the container. Such a process starts as root.
func TestAgentStop_ProcessBecomesTheTargetsUser_WaitsUntilItCanBeStopped(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the user of a thread")
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	const program = `(read line < "$0"; exec setpriv --reuid="$1" sleep 300) & exec setpriv --reuid="$1" sleep 300`
	s := &target{agenttest.Start(t, "sh", "-c", program, fifo, strconv.Itoa(nobody))}
	polltest.Until(t, "the parent runs as another user", func() bool { return userOf(s.PID) == nobody })
	stopped := make(chan error, 1)
	go func() {
		stopped <- asNobody(func() error {
			all, err := stop(s.Path)
			all.close()
			return err
		})
	}()
	polltest.Until(t, "the parent is suspended", func() bool { return stateOf(s.PID) == "T" || len(stopped) > 0 })
	if err := os.WriteFile(fifo, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if !s.allAre(t, "T") {
		t.Errorf("the states are %q, want both processes stopped", s.states(t))
	}
}

// userOf returns the user ID of a process, or -1 if the process has ended.
func userOf(pid int) int {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return -1
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1
	}
	return int(stat.Uid)
}

// The agent first suspends all processes with SIGSTOP, so that no process can react to the end of another process.
func TestAgentKill_SIGSTOPFailsForOneProcess_KillsNoProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the user of a thread")
	}
	s := &target{agenttest.Start(t, "sh", "-c", fmt.Sprintf("setpriv --reuid=%d sleep 300 & wait", nobody))}
	polltest.Until(t, "the child runs as another user", func() bool {
		all, err := find(s.Path)
		defer all.close()
		return err == nil && slices.ContainsFunc(all, func(p *os.Process) bool { return userOf(p.Pid) == nobody })
	})
	// The user nobody has permission to signal the child process of the target, but not the parent, which runs as
	// root.
	err := asNobody(func() error {
		_, err := kill(s.Path)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "stop the processes of the target") {
		t.Errorf("the error is %v", err)
	}
	polltest.Until(t, "both processes continue", func() bool { return s.allAre(t, "S") })
}

// The constant nobody is the ID of an unprivileged user. The kernel does not permit this user to signal the processes
// of root.
const nobody = 65534

// asNobody calls the function f on a thread whose user ID is the constant nobody. The caller must be root.
func asNobody(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // do not call UnlockOSThread, so that the thread ends with this goroutine
		if _, _, code := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); code != 0 {
			result <- code
			return
		}
		result <- f()
	}()
	return <-result
}

func TestAgent_Isolate_ClosesConnectionsToTheServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	forwarding, err := relay.Listen(t.Context(), "127.0.0.1:0", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = forwarding.Close() }()
	a := New(Config{Target: "no-such-target", Relay: forwarding}, slog.New(slog.DiscardHandler))
	defer a.Close()
	get := func() error {
		response, err := http.Get("http://" + forwarding.Address())
		if err != nil {
			return err
		}
		return response.Body.Close()
	}
	for _, tt := range []struct {
		id   string
		from []netip.Addr
		cut  bool
	}{
		{"all/0", nil, true},
		{"me/0", []netip.Addr{netip.MustParseAddr("127.0.0.1")}, true},
		{"others/0", []netip.Addr{netip.MustParseAddr("192.0.2.1")}, false},
	} {
		if err := get(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Inject(Command{ID: tt.id, Action: plan.ActionIsolate, For: time.Minute, From: tt.from}); err != nil {
			t.Fatal(err)
		}
		if err := get(); (err != nil) != tt.cut {
			t.Errorf("%s: a request during the isolation: %v", tt.id, err)
		}
		during, _ := a.Fault(tt.id)
		a.Heal(tt.id)
		f, ok := a.Fault(tt.id)
		if !ok || f.Healed.IsZero() {
			t.Errorf("%s: the fault is %+v", tt.id, f)
		}
		if during.Connections == nil || f.Connections == nil {
			t.Fatalf("%s: the number of connections is unknown", tt.id)
		}
		if *f.Connections != *during.Connections || (*f.Connections > 0) != tt.cut {
			t.Errorf("%s: %d connections were cut during the isolation, and %d in total", tt.id, *during.Connections, *f.Connections)
		}
	}
	if _, err := a.Inject(Command{ID: "short/0", Action: plan.ActionIsolate, For: 10 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the isolation ends by itself", func() bool { return get() == nil })
}

func isRejected(err error) bool {
	_, ok := errors.AsType[*RejectedError](err)
	return ok
}

// serve serves an agent over TLS. It returns the address and the certificate of the server.
func serve(t *testing.T, a *Agent) (address string, certificate []byte) {
	t.Helper()
	certificate, key := tlstest.NewAuthority(t, "agent").Issue(t, ServerName)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(Handler(a, func() (string, error) { return "the token", nil }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), certificate
}

func TestAgentClient_OverTLS_InjectsAndEndsFaults(t *testing.T) {
	s := startTarget(t)
	address, certificate := serve(t, newAgent(t, s.Path))
	c, err := NewClient("the token", certificate, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	const id = "pause of redis/0"
	if _, err := c.Fault(t.Context(), address, id); !errors.Is(err, ErrUnknown) {
		t.Errorf("Fault with the ID of a fault that was not injected: %v", err)
	}
	injected, err := c.Inject(t.Context(), address, Command{ID: id, Action: plan.ActionPause, For: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the target is stopped", func() bool { return s.allAre(t, "T") })
	if err := c.Heal(t.Context(), address, id); err != nil {
		t.Fatal(err)
	}
	healed, err := c.Fault(t.Context(), address, id)
	if err != nil || !healed.At.Equal(injected.At) || healed.Healed.IsZero() {
		t.Errorf("the fault is %+v, %v", healed, err)
	}
	if _, err := c.Inject(t.Context(), address, Command{ID: "a/0", Action: plan.ActionEvict}); !isRejected(err) {
		t.Errorf("Inject with an action that agents do not know: %v", err)
	}
}

func TestAgentClient_WrongTokenOrCertificate_Fails(t *testing.T) {
	address, certificate := serve(t, newAgent(t, "no-such-target"))
	_, other := serve(t, newAgent(t, "no-such-target"))
	for _, tt := range []struct {
		name, token string
		certificate []byte
		want        string
	}{
		{"a wrong token", "another token", certificate, "401"},
		{"no token", "", certificate, "401"},
		{"the certificate of another agent", "the token", other, "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := NewClient(tt.token, tt.certificate, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Inject(t.Context(), address, Command{ID: "a/0", Action: plan.ActionKill})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want an error that contains %q", err, tt.want)
			}
		})
	}
	if _, err := NewClient("the token", []byte("no certificate"), time.Minute); err == nil {
		t.Error("NewClient accepts a certificate that is not PEM")
	}
}

func TestAgentHandler_InvalidRequest_ReturnsErrorStatus(t *testing.T) {
	handler := Handler(newAgent(t, "no-such-target"), func() (string, error) { return "the token", nil })
	for _, tt := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"a body that is too large", http.MethodPut, Path + "/a/0", `{"action":"` + strings.Repeat("x", 1<<20) + `"}`, http.StatusBadRequest},
		{"a body that is not JSON", http.MethodPut, Path + "/a/0", "kill", http.StatusBadRequest},
		{"an unknown field", http.MethodPut, Path + "/a/0", `{"pid":1}`, http.StatusBadRequest},
		{"an unsupported method", http.MethodPost, Path + "/a/0", "", http.StatusMethodNotAllowed},
		{"an unknown path", http.MethodGet, "/metrics", "", http.StatusNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("Authorization", "Bearer the token")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("the response has the status %d and the body %s, want the status %d", w.Code, w.Body, tt.want)
			}
		})
	}
}

func TestAgentHandler_RequestWithoutValidToken_HasNoEffect(t *testing.T) {
	s := startTarget(t)
	a := newAgent(t, s.Path)
	handler := Handler(a, func() (string, error) { return "the token", nil })
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer the toke", "Bearer the token ", "bearer the token", "Basic the token", "the token", "Bearer " + strings.Repeat("x", 1<<20)} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "POST", "OPTIONS", "TRACE", "INVENTED"} {
			for _, path := range []string{Path + "/a/0", Path + "/", Path, "/", "/healthz/../" + Path + "/a/0", "/" + Path + "/a/0", "/%2e%2e" + Path + "/a/0", "/healthz/x", "/metrics"} {
				r := httptest.NewRequest(method, path, strings.NewReader(`{"action":"Kill"}`))
				if authorization != "" {
					r.Header.Set("Authorization", authorization)
				}
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				// A redirect (status 3xx) is allowed, because its target requires the token, too.
				if w.Code/100 == 2 || w.Code/100 == 5 {
					t.Errorf("%s %s with %.30q: the response has the status %d and the body %s", method, path, authorization, w.Code, w.Body)
				}
			}
		}
	}
	if _, ok := a.Fault("a/0"); ok {
		t.Error("a request without a valid token has injected a fault")
	}
	polltest.Until(t, "both processes sleep, so they were neither killed nor suspended", func() bool { return s.allAre(t, "S") })
}

// The kubelet has no token.
func TestAgentHandler_Healthz_NeedsNoToken(t *testing.T) {
	w := httptest.NewRecorder()
	noToken := func() (string, error) { return "", net.ErrClosed }
	Handler(newAgent(t, "no-such-target"), noToken).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("the response has the status %d", w.Code)
	}
}

func TestAgentHandler_EmptyOrUnreadableToken_RejectsAllRequests(t *testing.T) {
	for name, token := range map[string]func() (string, error){
		"an empty token":      func() (string, error) { return "", nil },
		"an unreadable token": func() (string, error) { return "", net.ErrClosed },
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, Path+"/a/0", nil)
			r.Header.Set("Authorization", "Bearer ")
			Handler(newAgent(t, "no-such-target"), token).ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized && w.Code != http.StatusInternalServerError {
				t.Errorf("the response has the status %d", w.Code)
			}
		})
	}
}
