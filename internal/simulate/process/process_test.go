package process_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/simulate/process"
	"github.com/parking-operator/parking-operator/test/servers"
)

// echo returns the address of a server that sends back what it receives.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// exchange sends a byte and receives it again.
func exchange(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

func TestProxy_Cut_ClosesEstablishedConnectionsAndRejectsOthers(t *testing.T) {
	t.Parallel()
	p, err := process.NewProxy(t.Context(), echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", p.Address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	established := dial()
	if err := exchange(established); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	for name, conn := range map[string]net.Conn{"an established": established, "another": dial()} {
		if err := exchange(conn); err == nil {
			t.Errorf("%s connection works while the server is isolated", name)
		}
	}
	p.Heal()
	if err := exchange(dial()); err != nil {
		t.Errorf("after that, a connection fails: %v", err)
	}
}

func TestServer_KeepsItsAddress(t *testing.T) {
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
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
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
