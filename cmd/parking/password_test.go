package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// No message may quote a value that can contain a password, even if the value is malformed.
func TestMessages_NeverQuotePasswords(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
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
		} {
			r := &running{cmd: command(ctx, t, args...)}
			r.cmd.Env = os.Environ()
			if args[0] == "audit" || args[0] == "purge" {
				r.cmd.Env = append(r.cmd.Env, envRedis+"="+uri, envRabbitMQ+"="+uri)
			}
			r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
			if err := r.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, r); got.code != exitBadInput || strings.Contains(got.stdout+got.stderr, "s3cr3t") {
				t.Errorf("%q with %q: exit code %d: %s%s", args, uri, got.code, got.stdout, got.stderr)
			}
		}
	}
}
