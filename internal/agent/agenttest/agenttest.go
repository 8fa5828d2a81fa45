// Package agenttest starts processes into which tests of agents inject faults.
package agenttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/parking-operator/parking-operator/internal/polltest"
)

// Target is a process in its own mount namespace, like the process of a container.
type Target struct {
	// Path is a directory. It is a mount point inside the mount namespace of the process, but not outside.
	Path string
	PID  int

	ended chan struct{}
	err   error
}

// Start runs a command in a new mount namespace until the test ends. If the machine forbids mount namespaces, Start
// skips the test, or fails it if PARKING_TEST_REQUIRE=1.
func Start(t testing.TB, command ...string) *Target {
	t.Helper()
	s := &Target{Path: t.TempDir(), ended: make(chan struct{})}
	namespace := "--mount"
	if os.Geteuid() != 0 {
		namespace = "-rm"
	}
	cmd := exec.Command("unshare", append([]string{namespace, "sh", "-ec", `mount --bind "$0" "$0"; exec "$@"`, s.Path}, command...)...)
	// The process leads a new process group, so that the cleanup also kills the children of the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		missing(t, err)
	}
	s.PID = cmd.Process.Pid
	go func() {
		s.err = cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-s.PID, syscall.SIGKILL) // fails only if the process has already ended
		<-s.ended
	})
	polltest.Until(t, "Target.Path is a mount point in the mount namespace of the process", func() bool {
		select {
		case <-s.ended:
			missing(t, fmt.Errorf("the command unshare ended before the directory was mounted: %w", s.err))
		default:
		}
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.PID))
		return err == nil && strings.Contains(string(mounts), " "+s.Path+" ")
	})
	return s
}

// missing skips a test that needs a mount namespace. With PARKING_TEST_REQUIRE=1, it fails the test instead.
func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("PARKING_TEST_REQUIRE") == "1" {
		t.Fatalf("create a mount namespace: %v; run the tests as root, or allow user namespaces", err)
	}
	t.Skipf("create a mount namespace: %v", err)
}

// Ended returns a channel that is closed when the process has ended.
func (s *Target) Ended() <-chan struct{} { return s.ended }

// AwaitKilled waits until the process has ended. It fails the test unless SIGKILL ended the process.
func (s *Target) AwaitKilled(t testing.TB) {
	t.Helper()
	<-s.ended
	exit, ok := errors.AsType[*exec.ExitError](s.err)
	if status, isStatus := exit.Sys().(syscall.WaitStatus); !ok || !isStatus || status.Signal() != syscall.SIGKILL {
		t.Errorf("the process ended with %v, want SIGKILL", s.err)
	}
}

// IsStopped reports whether SIGSTOP has stopped the process.
func (s *Target) IsStopped() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	return err == nil && strings.Contains(string(stat), ") T ")
}
