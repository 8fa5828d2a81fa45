package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/privateserver"
)

const (
	amqpVariable    = "PARKING_TEST_AMQP_URI"
	redisVariable   = "PARKING_TEST_REDIS_URI"
	requireVariable = "PARKING_TEST_REQUIRE"
)

// NewRabbitMQ starts a RabbitMQ node until the test ends. If RabbitMQ is not installed, the test is skipped, or
// fails if PARKING_TEST_REQUIRE=1.
func NewRabbitMQ(t testing.TB, opts RabbitMQOptions) *RabbitMQ {
	t.Helper()
	skipIfShort(t)
	r, err := StartRabbitMQ(t.Context(), "", opts)
	need(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.Diagnosis())
		}
		closeOrFail(t, r.Close)
	})
	reportServer("RabbitMQ", r.Version(), r.String())
	return r
}

// NewRabbitMQCluster starts a cluster of RabbitMQ nodes until the test ends. If RabbitMQ is not installed, the test
// is skipped, or fails if PARKING_TEST_REQUIRE=1.
func NewRabbitMQCluster(t testing.TB, nodes int, opts RabbitMQOptions) []*RabbitMQ {
	t.Helper()
	cluster := []*RabbitMQ{NewRabbitMQ(t, opts)}
	opts.Join = cluster[0].RabbitMQ
	for len(cluster) < nodes {
		cluster = append(cluster, NewRabbitMQ(t, opts))
	}
	return cluster
}

// NewRedis starts a Redis server until the test ends. If Redis is not installed, the test is skipped, or fails if
// PARKING_TEST_REQUIRE=1.
func NewRedis(t testing.TB, opts RedisOptions) *Redis {
	t.Helper()
	skipIfShort(t)
	r, err := StartRedis(t.Context(), "", opts)
	need(t, err)
	t.Cleanup(func() { closeOrFail(t, r.Close) })
	reportServer(r.Product(), r.Version(), r.String())
	return r
}

// NewPostgres starts a PostgreSQL server until the test ends. If PostgreSQL is not installed, the test is skipped,
// or fails if PARKING_TEST_REQUIRE=1.
func NewPostgres(t testing.TB, opts PostgresOptions) *Postgres {
	t.Helper()
	skipIfShort(t)
	p, err := privateserver.StartPostgres(t.Context(), opts)
	need(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(p.Log())
		}
		closeOrFail(t, p.Close)
	})
	reportServer("PostgreSQL", p.Version(), p.String())
	return p
}

// PostgresURI creates a database for this test alone and returns its URI. Tests must not stop the server, which the
// tests of the binary share.
func PostgresURI(t testing.TB) string {
	t.Helper()
	skipIfShort(t)
	p, err := shared.postgres.get(func() (*Postgres, error) {
		return privateserver.StartPostgres(context.Background(), PostgresOptions{})
	})
	need(t, err)
	reportServer("PostgreSQL", p.Version(), p.String())
	uri, err := p.CreateDatabase(t.Context(), Name(t))
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// FreeAddress returns a loopback address at which nothing listens. Until the test ends, no other caller gets the
// address, and the kernel does not assign its port.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := ReserveAddress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { runtime.KeepAlive(address) })
	return address.String()
}

// VHost creates a RabbitMQ virtual host for this test alone and returns the URI of the virtual host. VHost deletes the
// virtual host when the test ends.
func (r *RabbitMQ) VHost(t testing.TB) string {
	t.Helper()
	name := Name(t)
	uri, err := r.AddVHost(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.Running() {
			closeOrFail(t, func() error { return r.DeleteVHost(name) })
		}
	})
	return uri
}

// Program returns the absolute path of a program in PATH. If -short is given or the program is missing, Program skips
// the test. With PARKING_TEST_REQUIRE=1, a missing program fails the test, with the remedy.
func Program(t testing.TB, name, remedy string) string {
	t.Helper()
	skipIfShort(t)
	path, err := privateserver.FindProgram("", name, remedy)
	need(t, err)
	return path
}

// skipIfShort skips the test if go test -short is running.
func skipIfShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("the test needs a server, and -short was given")
	}
}

// need skips the test if the error says that a program is not installed; see SkipOrFail. For any other error, need
// fails the test.
func need(t testing.TB, err error) {
	t.Helper()
	var missing *NotInstalledError
	switch {
	case err == nil:
	case !errors.As(err, &missing):
		t.Fatal(err)
	default:
		SkipOrFail(t, missing.Error())
	}
}

// SkipOrFail skips the test for the given reason. With PARKING_TEST_REQUIRE=1, the test fails instead.
func SkipOrFail(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv(requireVariable) == "1" {
		t.Fatalf("%s (%s=1 does not allow this test to be skipped)", reason, requireVariable)
	}
	reportSkip(t.Name(), reason)
	t.Skip(reason)
}

func closeOrFail(t testing.TB, end func() error) {
	t.Helper()
	if err := end(); err != nil {
		t.Error(err)
	}
}

// shared contains the servers that the tests of one binary share. The first test that needs a server starts the server.
var shared struct {
	rabbitMQ sharedServer[*RabbitMQ]
	redis    sharedServer[*Redis]
	postgres sharedServer[*Postgres]
}

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

// Main runs the tests of a package, closes the shared servers, and exits.
func Main(m interface{ Run() int }) {
	code := m.Run()
	if code != 0 && shared.rabbitMQ.opened {
		fmt.Fprintln(os.Stderr, shared.rabbitMQ.server.Diagnosis())
	}
	if err := errors.Join(shared.rabbitMQ.close(), shared.redis.close(), shared.postgres.close()); err != nil {
		fmt.Fprintln(os.Stderr, "close the shared servers:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// AMQPURI returns the URI of the shared RabbitMQ server. This is the URI in PARKING_TEST_AMQP_URI or, if this variable
// is not set, the URI of a private server. Tests must not stop the server.
func AMQPURI(t testing.TB) string {
	t.Helper()
	skipIfShort(t)
	if uri := os.Getenv(amqpVariable); uri != "" {
		version, err := amqpVersion(uri)
		if err != nil {
			t.Fatalf("connect to the broker in %s, %s: %v", amqpVariable, privateserver.Redacted(uri), err)
		}
		reportServer("RabbitMQ", version, privateserver.Redacted(uri))
		return uri
	}
	return sharedRabbitMQ(t).URI()
}

// VHostURI returns the URI of a virtual host for this test alone. With PARKING_TEST_AMQP_URI, tests share a virtual
// host, so they must use Name for queues and exchanges.
func VHostURI(t testing.TB) string {
	t.Helper()
	// The user of an existing server may not be permitted to create virtual hosts.
	if os.Getenv(amqpVariable) != "" {
		return AMQPURI(t)
	}
	return sharedRabbitMQ(t).VHost(t)
}

func sharedRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	skipIfShort(t)
	r, err := shared.rabbitMQ.get(func() (*RabbitMQ, error) {
		return StartRabbitMQ(context.Background(), "", RabbitMQOptions{})
	})
	need(t, err)
	reportServer("RabbitMQ", r.Version(), r.String())
	return r
}

// RedisURI returns the URI of the shared Redis server. This is the URI in PARKING_TEST_REDIS_URI or, if this variable
// is not set, the URI of a private server. Tests must not stop or flush the server.
func RedisURI(t testing.TB) string {
	t.Helper()
	skipIfShort(t)
	if uri := os.Getenv(redisVariable); uri != "" {
		product, version, err := privateserver.RedisVersion(t.Context(), uri)
		if err != nil {
			t.Fatalf("connect to the server in %s, %s: %v", redisVariable, privateserver.Redacted(uri), err)
		}
		reportServer(product, version, privateserver.Redacted(uri))
		return uri
	}
	r, err := shared.redis.get(func() (*Redis, error) {
		return StartRedis(context.Background(), "", RedisOptions{})
	})
	need(t, err)
	reportServer(r.Product(), r.Version(), r.String())
	return r.URI()
}

// Name returns a unique name, for example for a queue, a virtual host or a part of a key. The name consists of
// lower-case letters, digits and hyphens.
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
	const maxLength = 24
	return test[:min(len(test), maxLength)] + "-" + privateserver.RandomHex(5)
}

// RemoveKeys deletes all keys that contain the given name from the shared Redis server when the test ends.
func RemoveKeys(t testing.TB, name string) {
	t.Helper()
	uri := RedisURI(t)
	t.Cleanup(func() {
		closeOrFail(t, func() error { return removeKeys(context.Background(), uri, name) })
	})
}

func removeKeys(ctx context.Context, uri, name string) (err error) {
	client, err := privateserver.NewRedisClient(uri)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	keys := client.Scan(ctx, 0, "*"+name+"*", 1_000).Iterator()
	for keys.Next(ctx) {
		if err := client.Unlink(ctx, keys.Val()).Err(); err != nil {
			return fmt.Errorf("delete the test's key %s: %w", keys.Val(), err)
		}
	}
	return keys.Err()
}

func amqpVersion(uri string) (version string, err error) {
	if _, err := amqp.ParseURI(uri); err != nil {
		// Do not include the parser's error, because it quotes the URI with the password.
		return "", errors.New("invalid AMQP URI: it must have the form amqp://user:password@host:port/vhost, with a percent-encoded password")
	}
	conn, err := amqp.Dial(uri)
	if err != nil {
		return "", err
	}
	version, _ = conn.Properties["version"].(string)
	return version, conn.Close()
}
