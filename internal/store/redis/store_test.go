package redis

import (
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/redis/go-redis/v9/logging"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestMain(m *testing.M) {
	logging.Disable() // the Redis client library would log every refused connection
	servers.Main(m)
}

func TestRedisStore_OnSingleServer_PassesTheConformanceSuite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, partitions int) store.Store {
		simulation := servers.Name(t)
		servers.RemoveKeys(t, simulation)
		return open(t, servers.RedisURI(t), simulation, partitions)
	})
}

// open returns a store whose visits expire exactly after MaxStay, without the usual margin.
func open(t testing.TB, uri, simulation string, partitions int) *Store {
	t.Helper()
	return openWith(t, Config{Simulation: simulation, Partitions: partitions}, Dependencies{Binding: source(t, uri)})
}

func openWith(t testing.TB, c Config, d Dependencies) *Store {
	t.Helper()
	return openTimed(t, c, d, timing{reloadInterval: reloadInterval})
}

func openTimed(t testing.TB, c Config, d Dependencies, timing timing) *Store {
	t.Helper()
	s, err := newStore(c, d, timing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// longTimeouts are URI parameters for busy machines. After a timeout, the client repeats a write, which the store
// would count as a duplicate.
const longTimeouts = "dial_timeout=1m&read_timeout=1m&write_timeout=1m&pool_timeout=2m"

// source returns a binding.Source for the URI, with longTimeouts unless the URI contains timeouts.
func source(t testing.TB, uri string) binding.Source {
	t.Helper()
	if !strings.Contains(uri, "timeout=") {
		separator := "?"
		if strings.Contains(uri, "?") {
			separator = "&"
		}
		uri += separator + longTimeouts
	}
	return exactSource(t, uri)
}

// exactSource returns a source of a binding with the given URI. It adds no timeouts to the URI.
func exactSource(t testing.TB, uri string) binding.Source {
	t.Helper()
	address, err := binding.URI(binding.Redis(), uri, "")
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// withUser returns the URI with the given user name and password.
func withUser(t testing.TB, uri, user, password string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

func BenchmarkRedisStore(b *testing.B) {
	storetest.Benchmark(b, 256, func(b *testing.B) store.Store {
		simulation := servers.Name(b)
		servers.RemoveKeys(b, simulation)
		return open(b, servers.RedisURI(b), simulation, 1)
	})
}

func counterValue(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
