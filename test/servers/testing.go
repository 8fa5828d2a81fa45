package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	amqpVariable    = "PARKING_TEST_AMQP_URI"
	redisVariable   = "PARKING_TEST_REDIS_URI"
	requireVariable = "PARKING_TEST_REQUIRE"
)

// NewRabbitMQ starts a node for this test alone and ends it with the test. The test is skipped when
// RabbitMQ is not installed, or fails when PARKING_TEST_REQUIRE=1.
func NewRabbitMQ(t testing.TB, opts RabbitMQOptions) *RabbitMQ {
	t.Helper()
	skipIfShort(t)
	r, err := StartRabbitMQ(t.Context(), "", opts)
	need(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.trouble())
		}
		closeOrFail(t, r.Close)
	})
	reportServer("RabbitMQ", r.Version(), r.String())
	return r
}

// NewRedis starts a server for this test alone and ends it with the test. The test is skipped when
// Redis is not installed, or fails when PARKING_TEST_REQUIRE=1.
func NewRedis(t testing.TB, opts RedisOptions) *Redis {
	t.Helper()
	skipIfShort(t)
	r, err := StartRedis(t.Context(), "", opts)
	need(t, err)
	t.Cleanup(func() { closeOrFail(t, r.Close) })
	reportServer(r.Product(), r.Version(), r.String())
	return r
}

// VHost makes a virtual host for this test alone, removes it with the test, and returns its URI.
func (r *RabbitMQ) VHost(t testing.TB) string {
	t.Helper()
	name := Name(t)
	uri, err := r.AddVHost(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.process.running() {
			closeOrFail(t, func() error { return r.DeleteVHost(name) })
		}
	})
	return uri
}

// Program returns the absolute path of a program that a test runs, looking along PATH. The test is skipped
// when there is none, or fails when PARKING_TEST_REQUIRE=1; remedy says how to get it.
func Program(t testing.TB, name, remedy string) string {
	t.Helper()
	path, err := findProgram("", name, remedy)
	need(t, err)
	return path
}

// skipIfShort skips the test under go test -short, which runs the tests that need no server.
func skipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs a server, and -short was given")
	}
}

// need ends the test when err says that it cannot have its server or program.
func need(t testing.TB, err error) {
	t.Helper()
	var missing *NotInstalledError
	switch {
	case err == nil:
	case !errors.As(err, &missing):
		t.Fatal(err)
	case os.Getenv(requireVariable) == "1":
		t.Fatalf("%v (%s=1 forbids to skip this test)", missing, requireVariable)
	default:
		reportSkip(t.Name(), missing.Error())
		t.Skip(missing.Error())
	}
}

func closeOrFail(t testing.TB, end func() error) {
	t.Helper()
	if err := end(); err != nil {
		t.Error(err)
	}
}

// The servers that the tests of one binary share; a test binary is the one place where nobody can
// pass them along. Each is started by the first test that asks for it.
var shared struct {
	rabbitMQ sharedServer[*RabbitMQ]
	redis    sharedServer[*Redis]
}

// sharedServer is a server that is started at most once.
type sharedServer[S interface{ Close() error }] struct {
	once   sync.Once
	server S
	err    error
	opened bool
}

func (s *sharedServer[S]) get(start func() (S, error)) (S, error) {
	s.once.Do(func() {
		s.server, s.err = start()
		s.opened = s.err == nil
	})
	return s.server, s.err
}

func (s *sharedServer[S]) close() error {
	if !s.opened {
		return nil
	}
	return s.server.Close()
}

// Main runs the tests of a package and ends the servers that they shared; call it from TestMain.
// Without it they die with the test binary, but their folders stay until another one starts. The tests may be
// wrapped by somebody else who has something to end.
func Main(m interface{ Run() int }) {
	code := m.Run()
	if code != 0 && shared.rabbitMQ.opened {
		fmt.Fprintln(os.Stderr, shared.rabbitMQ.server.trouble())
	}
	if err := errors.Join(shared.rabbitMQ.close(), shared.redis.close()); err != nil {
		fmt.Fprintln(os.Stderr, "end the shared servers:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// AMQPURI is the URI of the RabbitMQ that the tests of this binary share: the one that
// PARKING_TEST_AMQP_URI names, else a private one. Nobody may stop it.
func AMQPURI(t testing.TB) string {
	t.Helper()
	skipIfShort(t)
	if uri := os.Getenv(amqpVariable); uri != "" {
		version, err := amqpVersion(uri)
		if err != nil {
			t.Fatalf("connect to the broker that %s names, %s: %v", amqpVariable, redacted(uri), err)
		}
		reportServer("RabbitMQ", version, redacted(uri))
		return uri
	}
	return sharedRabbitMQ(t).URI()
}

// VHostURI is the URI of a virtual host for this test alone on the shared RabbitMQ. On the one that
// PARKING_TEST_AMQP_URI names no virtual host can be made, so it is that URI: use Name in the names
// of queues and exchanges all the same.
func VHostURI(t testing.TB) string {
	t.Helper()
	if os.Getenv(amqpVariable) != "" {
		return AMQPURI(t)
	}
	return sharedRabbitMQ(t).VHost(t)
}

func sharedRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	skipIfShort(t)
	// It outlives the test that starts it, hence the context.
	r, err := shared.rabbitMQ.get(func() (*RabbitMQ, error) {
		return StartRabbitMQ(context.Background(), "", RabbitMQOptions{})
	})
	need(t, err)
	reportServer("RabbitMQ", r.Version(), r.String())
	return r
}

// RedisURI is the URI of the Redis that the tests of this binary share: the one that
// PARKING_TEST_REDIS_URI names, else a private one. Nobody may stop or flush it.
func RedisURI(t testing.TB) string {
	t.Helper()
	skipIfShort(t)
	if uri := os.Getenv(redisVariable); uri != "" {
		product, version, err := redisVersion(t.Context(), uri)
		if err != nil {
			t.Fatalf("connect to the server that %s names, %s: %v", redisVariable, redacted(uri), err)
		}
		reportServer(product, version, redacted(uri))
		return uri
	}
	r, err := shared.redis.get(func() (*Redis, error) {
		return StartRedis(context.Background(), "", RedisOptions{})
	})
	need(t, err)
	reportServer(r.Product(), r.Version(), r.String())
	return r.URI()
}

// Name returns a name that no other test uses, of lower-case letters, digits and hyphens: good for
// a queue, a virtual host, or as the part of a key.
func Name(t testing.TB) string {
	t.Helper()
	test := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		default:
			return -1
		}
	}, t.Name())
	const longest = 24
	return test[:min(len(test), longest)] + "-" + randomHex(5)
}

// RemoveKeys removes, when the test ends, the keys on the shared Redis that contain name.
func RemoveKeys(t testing.TB, name string) {
	t.Helper()
	uri := RedisURI(t)
	t.Cleanup(func() {
		closeOrFail(t, func() error { return removeKeys(context.Background(), uri, name) })
	})
}

func removeKeys(ctx context.Context, uri, name string) (err error) {
	client, err := redisClient(uri)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	keys := client.Scan(ctx, 0, "*"+name+"*", 1_000).Iterator()
	for keys.Next(ctx) {
		if err := client.Unlink(ctx, keys.Val()).Err(); err != nil {
			return fmt.Errorf("remove the test's key %s: %w", keys.Val(), err)
		}
	}
	return keys.Err()
}

func amqpVersion(uri string) (version string, err error) {
	if _, err := amqp.ParseURI(uri); err != nil {
		// The parser's error quotes the URI, password included.
		return "", errors.New("the URI cannot be parsed: write amqp://user:password@host:port/vhost with the password percent-encoded")
	}
	conn, err := amqp.Dial(uri)
	if err != nil {
		return "", err
	}
	version, _ = conn.Properties["version"].(string)
	return version, conn.Close()
}
