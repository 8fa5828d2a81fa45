package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/ledger"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/view"
)

func TestProcess_LivePage_ShowsAllProcesses(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	s := startProcesses(ctx, t)
	address := closedPort(t)
	p := start(ctx, t, "process", "--plan", s.path, "--http", closedPort(t), "--page", address)
	var state view.State
	eventually(ctx, t, "the state has the events of the generators", func() error {
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
	s.plan.Objectives = plan.Objectives{MaxLost: 3}
	s.write(t)
	eventually(ctx, t, "the page has the objective of the edited plan", func() error {
		body, err := get(ctx, "http://"+address+"/v1/state")
		if err == nil && !strings.Contains(body, `"maxLost":3`) {
			err = fmt.Errorf("it is %s", body)
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
