//go:build !nooperator

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kubectlParking runs a command line of the kubectl plugin, and returns when it has ended.
func kubectlParking(t *testing.T, name, kubeconfig string, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(binary(t), link); err != nil {
		t.Fatal(err)
	}
	r := &running{cmd: command(ctx, t, args...)}
	r.cmd.Path, r.cmd.Args[0] = link, link
	r.cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, r)
}

func TestKubectl_ExitCodes(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   string
		code   int
		stderr string
	}{
		"unknown command": {"parke", exitBadInput, `unknown command "parke"`},
		"missing name":    {"pause", exitBadInput, "NAME is missing; see 'kubectl parking pause --help'"},
		"invalid format":  {"status -o csv", exitBadInput, "must be json, yaml, wide or name"},
		"no cluster":      {"status", exitBadInput, "no cluster is configured: name a kubeconfig"},
		"unreachable":     {"status --server https://127.0.0.1:1", exitFailed, "cannot reach the API server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := kubectlParking(t, pluginName, empty, strings.Fields(test.args)...)
			if got.code != test.code || !strings.HasPrefix(got.stderr, "kubectl parking: ") || !strings.Contains(got.stderr, test.stderr) {
				t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
			}
		})
	}
}

func TestKubectl_CompletesCommands(t *testing.T) {
	t.Parallel()
	got := kubectlParking(t, completionName, "", "pau")
	if got.code != exitOK || !strings.HasPrefix(got.stdout, "pause\t") {
		t.Errorf("exit code %d, stdout %q", got.code, got.stdout)
	}
}
