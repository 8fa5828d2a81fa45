package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/agent"
	"github.com/parking-operator/parking-operator/internal/agent/agenttest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
)

// agentSecrets writes the token, the certificate and the private key of an agent to a temporary directory. It returns
// the directory and the certificate.
func agentSecrets(t *testing.T) (directory string, certificate []byte) {
	t.Helper()
	certificate, key := tlstest.NewAuthority(t, "agent").Issue(t, agent.ServerName)
	directory = t.TempDir()
	for name, content := range map[string]string{
		agentTokenFile: "the token\n", certificateFile: string(certificate), keyFile: string(key),
	} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return directory, certificate
}

func TestAgent_KillCommand_KillsTheTarget(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	directory, certificate := agentSecrets(t)
	target := agenttest.Start(t, "sleep", "300")
	r := &running{cmd: command(ctx, t, "agent", "--target", target.Path, "--secret-dir", directory, "--http", "127.0.0.1:0")}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // ignore the error: only the agent writes to the file
	r.cmd.Stderr = log
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	output := func() string {
		text, err := os.ReadFile(log.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	listens := regexp.MustCompile(`"address":"(127\.0\.0\.1:\d+)"`)
	polltest.UntilState(t, "the agent serves", func() bool { return listens.MatchString(output()) }, func() any { return output() })
	c, err := agent.NewClient("the token", certificate, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inject(ctx, listens.FindStringSubmatch(output())[1], agent.Command{ID: "crash/0", Action: plan.ActionKill}); err != nil {
		t.Fatal(err)
	}
	target.AwaitKilled(t)
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, r); got.code != exitOK || strings.Contains(output(), "the token") {
		t.Errorf("exit code %d: %s", got.code, output())
	}
}

func TestAgent_InvalidFlags_AreRejected(t *testing.T) {
	t.Parallel()
	directory, _ := agentSecrets(t)
	for _, args := range [][]string{
		{"agent"},
		{"agent", "--target", "relative", "--secret-dir", directory},
		{"agent", "--secret-dir", t.TempDir()},
		{"agent", "--secret-dir", directory, "--relay", ":8091"},
		{"agent", "--secret-dir", directory, "--relay", "no address=127.0.0.1:6379"},
		{"agent", "--secret-dir", directory, "--http", "no address"},
	} {
		if got := parking(t, args...); got.code != exitBadInput {
			t.Errorf("%q: exit code %d: %s", args, got.code, got.stderr)
		}
	}
}
