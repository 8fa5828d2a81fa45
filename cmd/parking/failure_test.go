package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The command line may be correct even if a proxy answers in place of the API, or if the database is locked.
func TestCommands_DestinationOfSummariesIsNotReady_ExitWithFailure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args []string
		env  []string
		want []string
	}{
		{"a proxy requires credentials for an https URL", []string{"simulate", "--duration", "1s", "--summary-url", "https://api.example/v1"},
			[]string{"HTTPS_PROXY=" + proxyAnswering(t, http.StatusProxyAuthRequired)}, []string{"--summary-url: ", "answered 407", "NO_PROXY"}},
		{"a proxy does not reach the API of an https URL", []string{"simulate", "--duration", "1s", "--summary-url", "https://api.example/v1"},
			[]string{"HTTPS_PROXY=" + proxyAnswering(t, http.StatusBadGateway)}, []string{"--summary-url: ", "answered 502", "NO_PROXY"}},
		{"a proxy requires credentials for an http URL", []string{"simulate", "--duration", "1s", "--summary-url", "http://api.example/v1"},
			[]string{"HTTP_PROXY=" + proxyAnswering(t, http.StatusProxyAuthRequired)}, []string{"--summary-url: ", "answered 407", "NO_PROXY"}},
		{"another process has locked the database of simulate", []string{"simulate", "--duration", "1s", "--summaries-db", lockedDatabase(t)},
			nil, []string{"--summaries-db: ", "another process has locked"}},
		{"another process has locked the database of summaries", []string{"summaries", "--database", lockedDatabase(t)},
			nil, []string{"--database: ", "another process has locked"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The environment of the tests may contain a NO_PROXY that bypasses the proxy.
			env := append(tt.env, "NO_PROXY=none.invalid")
			checkFailure(t, parkingWith(t, env, append(tt.args, "--http", "127.0.0.1:0")...), tt.want)
		})
	}
}

// checkFailure checks that a command has exited with exitFailed and has printed only one line, to stderr. The line must
// contain all given texts, but no password.
func checkFailure(t *testing.T, got ended, want []string) {
	t.Helper()
	if got.code != exitFailed || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit code %d, want %d and one line: %s%s", got.code, exitFailed, got.stdout, got.stderr)
	}
	for _, text := range want {
		if !strings.Contains(got.stderr, text) {
			t.Errorf("stderr does not say %q: %s", text, got.stderr)
		}
	}
	if strings.Contains(got.stderr, "s3cr3t") {
		t.Errorf("stderr contains the password: %s", got.stderr)
	}
}

// proxyAnswering starts an HTTP proxy that answers every request with a status. It returns the URL of the proxy.
func proxyAnswering(t *testing.T, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("user", "s3cr3t")
	return u.String()
}

// lockedDatabase returns the path of an SQLite file that this process has locked.
func lockedDatabase(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "summaries.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	return path
}

// Resolving a host name needs a free file descriptor for a socket. If no file descriptor is free, the error must not
// blame the host name.
func TestSimulate_TooFewFileDescriptors_ExitsWithFailure(t *testing.T) {
	t.Parallel()
	database := []string{"--summaries-db", filepath.Join(t.TempDir(), "summaries.db")}
	for _, tt := range []struct {
		name string
		free int
		args []string
		want string
	}{
		{"RabbitMQ", 0, []string{"--rabbitmq-uri", "amqp://u:s3cr3t@broker.invalid"}, "--rabbitmq-uri: "},
		{"Redis", 0, []string{"--redis-uri", "redis://u:s3cr3t@store.invalid"}, "--redis-uri: "},
		{"the summary API", 0, []string{"--summary-url", "http://api.invalid/v1"}, "--summary-url: "},
		{"the live page", 0, []string{"--http", "127.0.0.1:0"}, "listen for HTTP at 127.0.0.1:0: "},
		{"the summary database", 0, database, "--summaries-db: "},
		{"the second file of the summary database", 1, database, "--summaries-db: "},
		{"the third file of the summary database", 2, database, "--summaries-db: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Use the Go resolver. Without a free file descriptor, the C resolver reports that the host does not exist.
			env := []string{freeFiles + "=" + strconv.Itoa(tt.free), "GODEBUG=netdns=go"}
			got := parkingWith(t, env, append([]string{"simulate", "--duration", "1s", "--http", ""}, tt.args...)...)
			checkFailure(t, got, []string{tt.want, "ulimit -n"})
		})
	}
}

// rejectingBroker is a broker that rejects declarations with an error.
type rejectingBroker struct {
	broker.Broker // nil, because the session calls only the methods that rejectingBroker overrides

	err error
}

func (b rejectingBroker) Declare(context.Context) error { return b.err }

func (rejectingBroker) Delete(context.Context) error { return nil }

// Only an error that matches broker.ErrConfig is bad input.
func TestSessionDeclare_RabbitMQRejectsTheDeclaration_IsBadInputOnlyIfTheConfigurationIsInvalid(t *testing.T) {
	t.Parallel()
	rejection := func(code int) error { return &amqp091.Error{Code: code, Reason: "the reason", Server: true} }
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"an internal error":           {rejection(amqp091.InternalError), false},
		"too few resources":           {rejection(amqp091.ResourceError), false},
		"no answer in time":           {context.DeadlineExceeded, false},
		"a missing permission":        {fmt.Errorf("%w: %w", broker.ErrConfig, rejection(amqp091.AccessRefused)), true},
		"a queue with other settings": {fmt.Errorf("%w: %w", broker.ErrConfig, rejection(amqp091.PreconditionFailed)), true},
	} {
		a, _ := besideHungBroker()
		a.broker.Broker = rejectingBroker{err: tt.err}
		s := session{plan: &plan.Plan{Simulation: "default.rush"}, adapters: a}
		if err := s.declare(t.Context()); !errors.Is(err, tt.err) || isBadInput(err) != tt.want {
			t.Errorf("%s: the error is %v, and it is bad input: %t, want %t", name, err, isBadInput(err), tt.want)
		}
	}
}

// isBadInput reports whether a command that ends with the given error exits with exitBadInput.
func isBadInput(err error) bool {
	failed, ok := errors.AsType[*runError](err)
	return ok && failed.badInput
}

func parkingWith(t *testing.T, env []string, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := &running{cmd: command(ctx, t, args...)}
	r.checkTempFiles(t)
	r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = append(r.cmd.Env, env...), &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return wait(t, r)
}

func TestPurge_RabbitMQRejectsTheUser_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	server, name := servers.NewRabbitMQ(t, servers.RabbitMQOptions{}), servers.Name(t)
	control := func(args ...string) {
		t.Helper()
		if _, err := server.Ctl(args...); err != nil {
			t.Fatal(err)
		}
	}
	channel := amqpChannel(t, server.URI())
	if err := channel.ExchangeDeclare("parking."+name, amqp091.ExchangeDirect, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URI())
	if err != nil {
		t.Fatal("the URI of a test's server cannot be parsed")
	}
	u.User = url.UserPassword("narrow", "s3cr3t")
	purge := func() ended { return parking(t, "purge", "--simulation", name, "--rabbitmq-uri", u.String()) }
	control("add_user", "narrow", "s3cr3t")
	control("set_permissions", "narrow", "^foo", ".*", ".*")
	checkFailure(t, purge(), []string{"exchange parking." + name, "ACCESS_REFUSED", "grant the user the permissions to configure, write and read"})
	control("set_permissions", "narrow", ".*", ".*", ".*")
	// RabbitMQ closes the connection of a user who exceeds max-channels. A second line on stderr may report this.
	control("set_user_limits", "narrow", `{"max-channels": 0}`)
	limited := purge()
	if _, text, _ := strings.Cut(limited.stderr, "parking: "); limited.code != exitFailed ||
		!strings.Contains(text, "number of channels opened for user 'narrow'") || !strings.Contains(text, "raise max-channels") {
		t.Errorf("the user may open no channel: exit code %d, want %d and the remedy: %s", limited.code, exitFailed, limited.stderr)
	}
	control("clear_user_limits", "narrow", "all")
	if got := purge(); got.code != exitOK || !strings.Contains(got.stdout, "removed exchange and queues") {
		t.Errorf("with all permissions: exit code %d: %s%s", got.code, got.stdout, got.stderr)
	}
}

func TestPurge_RabbitMQDoesNotRun_RemovesKeysAndErrorNamesRabbitMQ(t *testing.T) {
	t.Parallel()
	closed, redis, name := servers.FreeAddress(t), servers.RedisURI(t), servers.Name(t)
	servers.RemoveKeys(t, name)
	if err := redisClient(t, redis).Set(t.Context(), "parking:{"+name+":0}:owner", "somebody", 0).Err(); err != nil {
		t.Fatal(err)
	}
	got := parking(t, "purge", "--simulation", name, "--rabbitmq-uri", "amqp://u:s3cr3t@"+closed, "--redis-uri", redis)
	if want := "parking: --rabbitmq-uri: "; got.code != exitBadInput || !strings.HasPrefix(got.stderr, want) || !strings.Contains(got.stderr, "start RabbitMQ there") {
		t.Errorf("exit code %d, want %d and %q: %s", got.code, exitBadInput, want, got.stderr)
	}
	if want := "removed keys of " + name; !strings.HasPrefix(got.stdout, want) || strings.Contains(got.stdout, "queues") {
		t.Errorf("stdout is %q, want %q only", got.stdout, want)
	}
	if keys := keysOf(t, redis, name); len(keys) > 0 {
		t.Errorf("keys are left: %q", keys)
	}
	checkNoPassword(t, got, redis)
}
