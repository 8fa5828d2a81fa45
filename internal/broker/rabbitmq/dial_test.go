package rabbitmq

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/binding"
)

var errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

// testDialer returns a dialer whose connections are all refused. The function dialed returns the addresses that were
// tried since its previous call.
func testDialer(t *testing.T, uris string, hosts map[string][]string) (d *dialer, dialed func() []string) {
	t.Helper()
	source, err := binding.URI(binding.RabbitMQ(), uris, "")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var addresses []string
	d = newDialer(source, "test", slog.New(slog.DiscardHandler))
	d.lookup = func(_ context.Context, host string) ([]string, error) {
		if hosts[host] == nil {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return hosts[host], nil
	}
	d.dialTCP = func(_ context.Context, _, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		addresses = append(addresses, address)
		return nil, errRefused
	}
	return d, func() []string {
		mu.Lock()
		defer mu.Unlock()
		seen := addresses
		addresses = nil
		return seen
	}
}

func TestDial_AllAddressesFail_TriesEachOnceAndNamesAll(t *testing.T) {
	t.Parallel()
	d, dialed := testDialer(t, "amqp://u:secret@nodes:1/v,amqp://u:secret@192.0.2.9/v,amqp://u:secret@missing/v",
		map[string][]string{"nodes": {"192.0.2.1", "192.0.2.2"}})
	_, err := d.dial(t.Context(), "publish")
	got := dialed()
	slices.Sort(got)
	if want := []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.9:5672"}; !slices.Equal(got, want) {
		t.Errorf("dialed %q, want each of %q once", got, want)
	}
	const refused = "dial tcp: connect: connection refused"
	want := "connect to the broker at amqp://nodes:1,192.0.2.9,missing/v: 192.0.2.9:5672: " + refused +
		": start RabbitMQ there, or correct the host or port; missing:5672: lookup missing: no such host: correct the host name; " +
		"nodes:1 (192.0.2.1): " + refused + "; nodes:1 (192.0.2.2): " + refused + ": start RabbitMQ there, or correct the host or port"
	if err == nil || err.Error() != want {
		t.Errorf("error is %v,\nwant %s", err, want)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("the error does not wrap its causes")
	}
}

func TestDial_SeveralAddresses_FirstAddressIsRandom(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		uris  string
		hosts map[string][]string
	}{
		"several URIs":                  {uris: "amqp://192.0.2.1,amqp://192.0.2.2,amqp://192.0.2.3"},
		"a host with several addresses": {uris: "amqp://nodes", hosts: map[string][]string{"nodes": {"192.0.2.1", "192.0.2.2", "192.0.2.3"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, dialed := testDialer(t, tt.uris, tt.hosts)
			first := map[string]int{}
			for range 200 { // the chance that one of the three addresses never comes first is below 1e-34
				_, err := d.dial(t.Context(), "publish")
				if err == nil {
					t.Fatal("the connection was not refused")
				}
				first[dialed()[0]]++
			}
			if len(first) != 3 {
				t.Errorf("the first addresses were %v, want three different addresses", first)
			}
		})
	}
}

func TestDial_HostWithTwoIPVersions_TriesThePreferredVersionFirst(t *testing.T) {
	t.Parallel()
	d, dialed := testDialer(t, "amqp://nodes", map[string][]string{"nodes": {"2001:db8::1", "2001:db8::2", "192.0.2.1"}})
	for range 20 {
		_, err := d.dial(t.Context(), "publish")
		if err == nil {
			t.Fatal("the connection was not refused")
		}
		if got := dialed(); len(got) != 3 || got[2] != "192.0.2.1:5672" {
			t.Fatalf("dialed %q, want the IPv4 address last", got)
		}
	}
}

// If the network drops all IPv6 packets, an attempt to connect over IPv6 ends only when it times out. So the dialer
// must try IPv4 before the timeout.
func TestDial_IPv6DoesNotRespond_TriesIPv4BeforeTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, _ := testDialer(t, "amqp://nodes", nil)
		client, server := net.Pipe()
		defer func() { _ = server.Close() }()
		start := time.Now()
		d.dialTCP = func(ctx context.Context, _, address string) (net.Conn, error) {
			if address == "192.0.2.1:5672" {
				return client, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		conn, address, err := d.dialEither(t.Context(), "5672", "2001:db8::1", "192.0.2.1")
		if err != nil || conn != client || address != "192.0.2.1" || time.Since(start) != versionDelay {
			t.Errorf("connected to %s after %s (%v), want 192.0.2.1 after %s", address, time.Since(start), err, versionDelay)
		}
		_ = client.Close()

		dialed := map[string]time.Duration{}
		d.lookup = func(context.Context, string) ([]string, error) {
			return []string{"2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"}, nil
		}
		var mu sync.Mutex
		d.dialTCP = func(ctx context.Context, _, address string) (net.Conn, error) {
			mu.Lock()
			if _, found := dialed[address[:3]]; !found {
				dialed[address[:3]] = time.Since(start)
			}
			mu.Unlock()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		start = time.Now()
		if _, err := d.dial(t.Context(), "publish"); err == nil {
			t.Error("the connection succeeded")
		}
		synctest.Wait()
		if dialed["[20"] != 0 || dialed["192"] != versionDelay {
			t.Errorf("dialed after %v, want the IPv6 address at once and the IPv4 address after %s", dialed, versionDelay)
		}
	})
}

func TestDialEither_SlowerConnection_IsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, _ := testDialer(t, "amqp://nodes", nil)
		slow, peer := net.Pipe()
		fast, other := net.Pipe()
		defer func() { _, _ = fast.Close(), other.Close() }()
		d.dialTCP = func(ctx context.Context, _, address string) (net.Conn, error) {
			if address == "192.0.2.1:5672" {
				return fast, nil
			}
			<-ctx.Done()
			return slow, nil // the connection opens although dialEither has cancelled ctx
		}
		if conn, _, err := d.dialEither(t.Context(), "5672", "2001:db8::1", "192.0.2.1"); err != nil || conn != fast {
			t.Fatalf("the connection is not the one to the fallback address: %v", err)
		}
		synctest.Wait()
		if _, err := peer.Read(make([]byte, 1)); err == nil {
			t.Error("the slower connection is still open")
		}
	})
}

func TestDial_ContextEnds_TriesNoFurtherAddress(t *testing.T) {
	t.Parallel()
	d, dialed := testDialer(t, "amqp://192.0.2.1,amqp://192.0.2.2", nil)
	ctx, cancel := context.WithCancel(t.Context())
	refuse := d.dialTCP
	d.dialTCP = func(ctx context.Context, network, address string) (net.Conn, error) {
		cancel()
		return refuse(ctx, network, address)
	}
	if _, err := d.dial(ctx, "publish"); err == nil {
		t.Error("the connection was not refused")
	}
	if got := dialed(); len(got) != 1 {
		t.Errorf("dialed %q, want one address", got)
	}
}

func TestAttemptTimeout_SeveralAddresses_ShareTheTime(t *testing.T) {
	t.Parallel()
	if got := attemptTimeout(t.Context(), 0); got != connectTimeout {
		t.Errorf("the timeout for the last address is %s, want %s", got, connectTimeout)
	}
	if got := attemptTimeout(t.Context(), 1); got != nextTimeout {
		t.Errorf("the timeout for an address before the last one is %s, want %s", got, nextTimeout)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if got := attemptTimeout(ctx, 2); got > time.Second {
		t.Errorf("the timeout for the first of three addresses is %s, want at most a third of 3s", got)
	}
}

func TestDial_InvalidBinding_IsReportedOnce(t *testing.T) {
	t.Parallel()
	d, dialed := testDialer(t, "amqp://192.0.2.1?a=b,amqp://192.0.2.2?a=b", nil)
	_, err := d.dial(t.Context(), "publish")
	if err == nil || strings.Count(err.Error(), "remove the ?") != 1 || len(dialed()) != 0 {
		t.Errorf("error is %v", err)
	}
}

// With TLS 1.3, a server rejects a client certificate with an alert after the handshake.
func TestOpen_TLSAlertAfterTheHandshake_ReturnsTheAlert(t *testing.T) {
	t.Parallel()
	alert := &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}
	for range 100 {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }() // io.Copy returns when the other end of the pipe is closed
		_, err := open(t.Context(), newWire(alerted{near, alert}, silence), target{}, "test")
		if !errors.Is(err, alert) || !strings.Contains(remedyOf(err), "requires a client certificate") {
			t.Fatalf("error is %v with the remedy %q, want %v", err, remedyOf(err), alert)
		}
	}
}

// alerted is a connection whose reads return a TLS alert, as if the server had rejected the client certificate.
type alerted struct {
	net.Conn

	alert error
}

func (a alerted) Read([]byte) (int, error) { return 0, a.alert }
