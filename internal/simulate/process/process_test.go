package process_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/simulate/process"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestServerProcess_AfterFaults_HasTheSameAddress(t *testing.T) {
	t.Parallel()
	servers.Program(t, "redis-server", "run hack/install-servers.sh")
	daemon, err := servers.StartRedis(t.Context(), "", servers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := process.NewServer(t.Context(), "redis", daemon)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	options, err := redis.ParseURL(s.URI())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return client.Ping(ctx).Err()
	}
	for _, crash := range []bool{true, false} {
		started, err := s.Stop(t.Context(), crash, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := started(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := ping(); err != nil {
			t.Errorf("after a stop (crash: %t), the server does not answer: %v", crash, err)
		}
	}
	release, err := s.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err != nil {
		t.Errorf("after a pause, the server does not answer: %v", err)
	}
}
