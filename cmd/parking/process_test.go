package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/view"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestProcessCommand_LivePage_ShowsAllProcesses(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := startProcesses(ctx, t)
	address := servers.FreeAddress(t)
	p := start(ctx, t, "process", "--plan", s.path, "--http", servers.FreeAddress(t), "--page", address)
	var state view.State
	polltest.UntilNoError(t, "the state has the events of the generators", func() error {
		body, err := get(ctx, "http://"+address+"/v1/state")
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(body), &state); err != nil {
			return err
		}
		if state.Entry.Published < 100 || state.Exit.Published < 100 || state.Ledger.Matched == 0 || state.Queues.Ready == nil {
			return fmt.Errorf("it is %s", body)
		}
		return nil
	})
	if state.Simulation != s.plan.Simulation || state.Phase != view.Running || state.Verdict.Outcome != "" || state.Queues.Pool == nil {
		t.Errorf("the state is %+v", state)
	}
	for path, want := range map[string]string{"/": "<!doctype html>", "/v1/timeline": `"endToEnd":`} {
		if body, err := get(ctx, "http://"+address+path); err != nil || !strings.Contains(body, want) {
			t.Errorf("%s: %v, %.200q, want %q", path, err, body, want)
		}
	}
	rejectsRequestsOfOtherSites(ctx, t, address)
	servesFewConnections(ctx, t, address)
	s.plan.Objectives = plan.Objectives{MaxLost: 3}
	s.plan.Objectives.EndToEndP99 = plan.Duration(time.Microsecond) // so short that every event misses this objective
	s.plan.StartTime = time.Now().UTC().Truncate(time.Second)
	s.plan.Entry.Stages = []plan.Stage{{Duration: plan.Duration(2 * time.Second), Rate: 50}, {Duration: plan.Duration(time.Hour), Rate: 60}}
	s.write(t)
	polltest.UntilNoError(t, "the page has the objective of the edited plan", func() error {
		body, err := get(ctx, "http://"+address+"/v1/state")
		if err == nil && !strings.Contains(body, `"maxLost":3`) {
			err = fmt.Errorf("it is %s", body)
		}
		return err
	})
	polltest.UntilNoError(t, "the timeline has marks of the stage and the objective", func() error {
		body, err := get(ctx, "http://"+address+"/v1/timeline")
		for _, want := range []string{"stage 2 of 2", `"subject":"end-to-end p99"`, "entry generator", "processor"} {
			if err == nil && !strings.Contains(body, want) {
				err = fmt.Errorf("it has no %q", want)
			}
		}
		return err
	})
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, p); got.code != exitOK {
		t.Errorf("the processor ended with %+v", got)
	}
	terminate(ctx, t, s.Generators()...)
	if r := s.auditAtRest(ctx, t); r.Outcome != ledger.Pass {
		t.Errorf("the verdict is %s: %q", r.Outcome, r.Reasons)
	}
}

// servesFewConnections checks that the live page at an address serves at most pageConnections connections at the same
// time.
func servesFewConnections(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	var served atomic.Int64
	for range 2 * pageConnections {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := fmt.Fprint(c, "HEAD /assets/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		go func() {
			if response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodHead}); err == nil {
				_ = response.Body.Close()
				served.Add(1)
			}
		}()
	}
	polltest.UntilNoError(t, "most connections are served", func() error {
		if n := served.Load(); n < pageConnections*3/4 {
			return fmt.Errorf("%d are served", n)
		}
		return nil
	})
	<-time.After(100 * time.Millisecond) // without a limit, all connections would be served in this time
	if n := served.Load(); n > pageConnections {
		t.Errorf("%d connections are served, want at most %d", n, pageConnections)
	}
}
