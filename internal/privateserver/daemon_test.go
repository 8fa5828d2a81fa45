package privateserver

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
)

// Two processes must never use the data of one server at the same time.
func TestDaemon_NewProcess_StartsOnlyAfterThePreviousOneHasEnded(t *testing.T) {
	t.Parallel()
	var last *process
	started := 0
	d := &daemon{}
	d.launch = func(context.Context) (err error) {
		if last != nil && !errors.Is(syscall.Kill(last.pid, 0), syscall.ESRCH) {
			t.Errorf("process %d still exists when the next one starts", last.pid)
		}
		started++
		d.process, err = command{path: "/bin/sleep", args: []string{"300"}, output: io.Discard}.start()
		last = d.process
		return err
	}
	t.Cleanup(func() {
		if err := d.Kill(); err != nil {
			t.Error(err)
		}
	})
	start := func() error { return d.Start(t.Context()) }
	for _, step := range []struct {
		name  string
		do    func() error
		count int // the number of processes that were started so far
	}{
		{"start", start, 1},
		{"start while it runs", start, 1},
		{"pause", d.Pause, 1},
		{"start while it is paused", start, 1},
		{"kill while it is paused", d.Kill, 1},
		{"start after a kill", start, 2},
		{"restart", func() error { return d.Restart(t.Context()) }, 3},
		{"stop", func() error { return d.Stop(t.Context()) }, 3},
		{"start after a stop", start, 4},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if started != step.count {
			t.Errorf("%s: %d processes were started, want %d", step.name, started, step.count)
		}
	}
}

// A second server must not start in the directory of a running server.
func TestOpenDirectory_DirectoryInUse_ReturnsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := openDirectory("", dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDirectory("", dir); err == nil || !strings.Contains(err.Error(), "is in use") {
		t.Errorf("the second call returned %v", err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDirectory("", dir)
	if err != nil {
		t.Fatalf("after the first server has ended: %v", err)
	}
	if err := again.close(); err != nil {
		t.Error(err)
	}
}
