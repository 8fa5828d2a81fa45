package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/report"
	"github.com/parking-operator/parking-operator/test/apiserver"
	"github.com/parking-operator/parking-operator/test/servers"
)

// asParking is an environment variable that makes the test binary run the program parking. Unlike a separate build, the
// test binary may contain the race detector.
const asParking = "PARKING_TEST_AS_PARKING"

// freeFiles is an environment variable. If it is set, the program has only this number of free file descriptors.
const freeFiles = "PARKING_TEST_FREE_FILES"

// patience is the timeout of a test that runs the program. RabbitMQ may need minutes to start on a busy machine.
const patience = 10 * time.Minute

func TestMain(m *testing.M) {
	connectTimeout, purgeTimeout = time.Minute, 5*time.Minute // enough for a busy machine
	if os.Getenv(asParking) == "1" {
		if free, err := strconv.Atoi(os.Getenv(freeFiles)); err == nil {
			defer exhaustFiles(free)()
		}
		main()
		return
	}
	if err := os.Setenv(asParking, "1"); err != nil { // the child processes of the tests inherit this environment variable
		panic(err)
	}
	// A process under nohup ignores SIGHUP, and so do its children. After this call, the children end on SIGHUP.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	servers.Main(apiserver.NewTests(m))
}

// exhaustFiles opens files until the process has only the given number of free file descriptors. The returned function
// closes the files.
func exhaustFiles(free int) func() {
	const limit = 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		panic(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	closeAll := func(files []*os.File) {
		for _, f := range files {
			_ = f.Close() // nothing was written
		}
	}
	closeAll(files[len(files)-free:])
	return func() { closeAll(files[:len(files)-free]) }
}

// binary returns the path of the test binary, which also serves as the program parking.
func binary(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// ended contains the output and the exit code of a process that has ended.
type ended struct {
	stdout, stderr string
	code           int
}

// checkTempFiles gives a process its own directory for temporary files. When the test ends, it checks that the process
// has left no files there.
func (r *running) checkTempFiles(t *testing.T) {
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

// parking runs a command line and waits for it to end.
func parking(t *testing.T, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return wait(t, start(ctx, t, args...))
}

func command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(ctx, binary(t), args...)
}

// running is a process that has not ended yet, with its output so far.
type running struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func start(ctx context.Context, t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{cmd: command(ctx, t, args...)}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.checkTempFiles(t)
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

// signalUntilEnd sends a signal to the process again and again until the process ends.
func signalUntilEnd(ctx context.Context, t *testing.T, r *running, signal syscall.Signal) {
	t.Helper()
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = r.cmd.Wait() // ignore the error: callers read the exit code from ProcessState
	}()
	polltest.UntilNoError(t, "the process ends", func() error {
		select {
		case <-exited:
			return nil
		default:
			_ = r.cmd.Process.Signal(signal) // Signal fails if the process has just ended
			return errors.New("still running")
		}
	})
}

// result decodes the output of "parking simulate --output json".
func (e ended) result(t *testing.T) report.Document {
	t.Helper()
	var r report.Document
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

// file writes a file to a temporary directory and returns its path.
func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// manifestFile writes a manifest with the given spec, in YAML, to a file and returns its path.
func manifestFile(t *testing.T, spec string) string {
	t.Helper()
	return file(t, "simulation.yaml", `apiVersion: simulation.parking.dev/v1alpha1
kind: ParkingSimulation
metadata: {name: test}
spec: `+spec+"\n")
}
