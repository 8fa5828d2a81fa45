package servers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostsVariable is the name of an environment variable. In a process that WithHosts has started, the variable contains
// the name of the test.
const hostsVariable = "PARKING_TEST_HOSTS"

// WithHosts calls a function in a process whose hosts file has additional lines. To do so, it runs the calling test
// again in a child process, which has its own mount namespace. In the child process, WithHosts calls the function.
// Other processes do not see the lines. The calling test must not be a subtest. If the machine does not allow mount
// namespaces, WithHosts skips the test, or fails it if PARKING_TEST_REQUIRE=1.
func WithHosts(t *testing.T, lines string, test func()) {
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
		reason := strings.TrimSpace(err.Error() + " " + output)
		SkipOrFail(t, "run a command in a mount namespace: "+reason+"; run the tests as root, or allow user namespaces")
	}
	args := []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v"}
	if deadline, ok := t.Deadline(); ok {
		// If the test hangs, the other process must end first. Otherwise its output is lost.
		args = append(args, "-test.timeout="+(time.Until(deadline)*9/10).String())
	}
	output, err := run(args...)
	switch {
	case err != nil:
		t.Fatalf("the test failed in its mount namespace: %v\n%s", err, output)
	case strings.Contains(output, "--- SKIP: "+t.Name()+" "):
		t.Skip("it was skipped in its mount namespace")
	case !strings.Contains(output, "--- PASS: "+t.Name()+" "):
		t.Fatalf("the test did not run in its mount namespace:\n%s", output)
	}
}

// hostsCommand returns the beginning of a command line. The command that follows it sees a hosts file with additional
// lines.
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
