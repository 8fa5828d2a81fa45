package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/simulate"
	"github.com/parking-operator/parking-operator/test/apiserver"
	"github.com/parking-operator/parking-operator/test/servers"
)

// asParking makes the test binary be parking: tests run it as a process of its own, with the same race
// detector and the same code.
const asParking = "PARKING_TEST_AS_PARKING"

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	if os.Getenv(asParking) == "1" {
		main()
		return
	}
	if err := os.Setenv(asParking, "1"); err != nil { // for the processes that tests start
		panic(err)
	}
	// The tests may run under nohup. A signal that is caught here, instead of ignored, is neither in the
	// processes that tests start.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	servers.Main(apiserver.Sharing(m))
}

// binary is the program that runs as parking.
func binary(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ended is how a process ended.
type ended struct {
	stdout, stderr string
	code           int
}

// noTraces makes the processes that the test starts keep their temporary files in a folder of its own, which
// has to be empty when the test ends.
func (r *running) noTraces(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	r.cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("temporary files are left: %v, %v", left, err)
		}
	})
}

// parking runs a command line to its end.
func parking(t *testing.T, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return wait(t, start(ctx, t, args...))
}

func command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(ctx, binary(t), args...)
}

// running is a process that writes into buffers.
type running struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func start(ctx context.Context, t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: command(ctx, t, args...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.noTraces(t)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func wait(t *testing.T, r *running) ended {
	t.Helper()
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", r.cmd, err)
	}
	return ended{stdout: r.stdout.String(), stderr: r.stderr.String(), code: r.cmd.ProcessState.ExitCode()}
}

// signalUntilEnd sends the signal again and again until the process has ended, and waits for it.
func signalUntilEnd(ctx context.Context, t *testing.T, r *running, signal syscall.Signal) {
	t.Helper()
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = r.cmd.Wait() // how it ended is in its state
	}()
	eventually(ctx, t, "the process ends", func() error {
		select {
		case <-over:
			return nil
		default:
			_ = r.cmd.Process.Signal(signal) // it may just have ended
			return errors.New("still running")
		}
	})
}

// result reads what simulate prints with --output json.
func (e ended) result(t *testing.T) simulate.Result {
	t.Helper()
	var r simulate.Result
	decoder := json.NewDecoder(strings.NewReader(e.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("stdout is not one JSON object: %v\n%s\nstderr:\n%s", err, e.stdout, e.stderr)
	}
	if decoder.More() {
		t.Fatalf("stdout holds more than one JSON object:\n%s", e.stdout)
	}
	return r
}

// golden compares text with a golden file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the tests with -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); run the tests with -update if that is right:\n%s", path, diff)
	}
}

// file writes a file of the test's own.
func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// manifest writes a manifest with this spec, in YAML's flow style.
func manifest(t *testing.T, spec string) string {
	t.Helper()
	return file(t, "simulation.yaml", `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: test}
spec: `+spec+"\n")
}
