package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/manifest/manifesttest"
)

// No message may quote a value that can contain a password, even if the value is malformed.
func TestMessages_NeverQuotePasswords(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"https:/user:s3cr3t@h/v1", "http:user:s3cr3t@h", `https:\\user:s3cr3t@h`, "https://user:s3cr3t@h:99999", "user:s3cr3t@h", "http://user:s3cr3t@[::1",
		"amqp://h?s3cr3t", "amqp://h/?s3cr3t=1", "redis://h?s3cr3t", "redis://h?pool_size=s3cr3t", "redis://h?skip_verify=s3cr3t", "redis://h?addr=s3cr3t",
	} {
		for _, args := range [][]string{
			{"simulate", "--summary-url", uri},
			{"simulate", "--rabbitmq-uri", uri},
			{"simulate", "--redis-uri", uri},
			{"audit", "--simulation", "x"},
			{"purge", "--simulation", "x"},
			{"simulate", uri},
			{uri},
			{"simulate", "--redis-uri" + uri},
			{"simulate", "--seed", uri},
			{"simulate", "-f", "a.yaml", "-f", uri},
			{"simulate", "-f", uri},
			{"report", uri},
		} {
			env := map[string]string{}
			if args[0] == "audit" || args[0] == "purge" {
				env[envRedis], env[envRabbitMQ] = uri, uri
			}
			if code, output := executed(t, env, args); code != exitBadInput || strings.Contains(output, "s3cr3t") {
				t.Errorf("%q with %q: exit code %d: %s", args, uri, code, output)
			}
		}
	}
	for _, spec := range []string{
		"processor: {template: {spec: {containers: [{name: parking, args: '--requirepass s3cr3t'}]}}}",
		"processor: {template: {spec: {containers: [{name: parking, command: s3cr3t}]}}}",
		"processor: {template: {spec: {containers: [{name: parking, env: ['PASSWORD=s3cr3t']}]}}}",
		"processor: {template: {metadata: {annotations: token=s3cr3t}}}",
		"redis: {secretRef: {name: host=a password=s3cr3t}}",
		"redis: {secretRef: password=s3cr3t}",
	} {
		path := filepath.Join(t.TempDir(), "a.yaml")
		if err := os.WriteFile(path, []byte(manifesttest.Head+"spec: {"+spec+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, output := executed(t, nil, []string{"simulate", "-f", path}); code != exitBadInput || strings.Contains(output, "s3cr3t") {
			t.Errorf("%s: exit code %d: %s", spec, code, output)
		}
	}
}

// executed runs a command in this process. It returns the exit code and everything that the command printed.
func executed(t *testing.T, env map[string]string, args []string) (code int, output string) {
	t.Helper()
	printed, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = printed.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code = execute(ctx, newCLI(printed, printed, func(name string) string { return env[name] }), args)
	text, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text)
}
