package servers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostsVariable is the environment variable with which withHosts tells a child process the name of the test to run.
const hostsVariable = "PARKING_TEST_HOSTS"

// WithHosts runs its caller, a top-level Test function, again in a child process, and calls test there. Only the child
// and its descendants see the additional lines of the hosts file.
//
// If the machine does not allow mount namespaces, WithHosts skips the caller, or fails it if PARKING_TEST_REQUIRE=1.
func WithHosts(t *testing.T, lines string, test func()) {
	t.Helper()
	withHosts(t, lines, test, func(reason string) {
		t.Helper()
		SkipOrFail(t, reason+"; run the tests as root, or allow user namespaces")
	})
}

// WithHostsIfAllowed is like WithHosts, and calls the function test with true. If the machine does not allow mount
// namespaces, it calls test with false in the current process.
func WithHostsIfAllowed(t *testing.T, lines string, test func(added bool)) {
	t.Helper()
	withHosts(t, lines, func() { test(true) }, func(reason string) {
		t.Helper()
		t.Logf("run the test without additional lines in the hosts file: %s", reason)
		test(false)
	})
}

// withHosts implements WithHosts. If the machine does not allow mount namespaces, it calls the function forbidden with
// the reason.
func withHosts(t *testing.T, lines string, test func(), forbidden func(reason string)) {
	t.Helper()
	skipIfShort(t)
	if os.Getenv(hostsVariable) == t.Name() {
		test()
		return
	}
	command := hostsCommand(t, lines)
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], args...)...)
		cmd.Env = append(os.Environ(), hostsVariable+"="+t.Name())
		output, err := cmd.CombinedOutput()
		return string(output), err
	}
	if output, err := run("true"); err != nil {
		forbidden("run a command in a mount namespace: " + strings.TrimSpace(err.Error()+" "+output))
		return
	}
	args := []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	if deadline, ok := t.Deadline(); ok {
		// If the test hangs, the child process must end before this process. Otherwise the output of the child process
		// is lost.
		args = append(args, "-test.timeout="+(time.Until(deadline)*9/10).String())
	}
	output, err := run(args...)
	switch {
	case err != nil:
		t.Fatalf("the test failed in the mount namespace of the child process: %v\n%s", err, output)
	case strings.Contains(output, "--- SKIP: "+t.Name()+" "):
		t.Skip("the test was skipped in the mount namespace of the child process")
	case !strings.Contains(output, "--- PASS: "+t.Name()+" "):
		t.Fatalf("the test did not run in the mount namespace of the child process:\n%s", output)
	default:
		t.Logf("the test passed in the mount namespace of the child process:\n%s", output)
	}
}

// hostsCommand returns the beginning of a command line. A command appended to it runs with the additional lines in
// /etc/hosts.
func hostsCommand(t *testing.T, lines string) []string {
	t.Helper()
	const file = "/etc/hosts"
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, append(append(content, '\n'), lines...), 0o600); err != nil {
		t.Fatal(err)
	}
	namespace := "--mount"
	if os.Geteuid() != 0 {
		namespace = "-rm"
	}
	return []string{"unshare", namespace, "sh", "-ec", `mount --bind "$0" "$1"; shift; exec "$@"`, path, file}
}
