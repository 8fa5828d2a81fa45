//go:build amd64 || arm64

package rawconn_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/parking-operator/parking-operator/internal/pingtest"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/rawconn"
)

// pair returns the two ends of a TCP connection. Both are wrapped by the given function.
func pair(t testing.TB, wrap func(net.Conn) net.Conn) (client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return wrap(client), wrap(server)
}

func plain(conn net.Conn) net.Conn { return conn }

func TestConn_BehavesAsANetConn(t *testing.T) {
	t.Parallel()
	nettest.TestConn(t, func() (client, server net.Conn, stop func(), err error) {
		client, server = pair(t, rawconn.New)
		return client, server, func() {
			_ = client.Close()
			_ = server.Close()
		}, nil
	})
}

func TestConn_LargeWrite_ArrivesWhole(t *testing.T) {
	t.Parallel()
	client, server := pair(t, rawconn.New)
	sent := bytes.Repeat([]byte("parking "), 1<<20) // too much for the buffers of the sockets
	written := make(chan error, 1)
	go func() {
		n, err := client.Write(sent)
		if n != len(sent) {
			t.Errorf("wrote %d bytes, want %d", n, len(sent))
		}
		_ = client.Close()
		written <- err
	}()
	received, err := io.ReadAll(server)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(received, sent) {
		t.Errorf("received %d bytes, want the %d bytes that were sent", len(received), len(sent))
	}
}

// The race detector must see that each write happens before the read of the same bytes (see the Go memory model).
func TestConn_WriteAndRead_AreOrderedForTheRaceDetector(t *testing.T) {
	t.Parallel()
	wraps := map[string]func(net.Conn) net.Conn{"raw": rawconn.New, "plain": plain}
	for from, wrapClient := range wraps {
		for to, wrapServer := range wraps {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				client, server := pair(t, plain)
				client, server = wrapClient(client), wrapServer(server)
				var shared string
				go func() {
					shared = "written before the write"
					_, _ = client.Write([]byte("x"))
				}()
				if _, err := server.Read(make([]byte, 8)); err != nil {
					t.Fatal(err)
				}
				if shared == "" {
					t.Error("the read came before the write")
				}
			})
		}
	}
}

func TestConnIsQuiet_UnreadDataOrClosed_IsFalse(t *testing.T) {
	t.Parallel()
	client, server := pair(t, rawconn.New)
	conn, ok := client.(*rawconn.Conn)
	if !ok {
		t.Fatalf("the connection is a %T", client)
	}
	if !conn.IsQuiet() {
		t.Error("a new connection is not quiet")
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "data arrives", func() bool { return !conn.IsQuiet() })
	if _, err := conn.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if !conn.IsQuiet() {
		t.Error("the connection is not quiet although everything is read")
	}
	_ = server.Close()
	polltest.Until(t, "the end of the stream arrives", func() bool { return !conn.IsQuiet() })
	_ = conn.Close()
	if conn.IsQuiet() {
		t.Error("a closed connection is quiet")
	}
}

// The errors of a Conn appear in logs, so they must have the same texts as the errors of package net.
func TestConn_Errors_AreThoseOfPackageNet(t *testing.T) {
	t.Parallel()
	buffer := make([]byte, 8)
	past := time.Unix(1, 0)
	for name, provoke := range map[string]func(client, server net.Conn) error{
		"end of file": func(client, server net.Conn) error {
			_ = server.Close()
			_, err := client.Read(buffer)
			return err
		},
		"timeout of a read": func(client, _ net.Conn) error {
			_ = client.SetReadDeadline(past)
			_, err := client.Read(buffer)
			return err
		},
		"timeout of a write": func(client, _ net.Conn) error {
			_ = client.SetWriteDeadline(past)
			_, err := client.Write(buffer)
			return err
		},
		"read of a closed connection": func(client, _ net.Conn) error {
			_ = client.Close()
			_, err := client.Read(buffer)
			return err
		},
		"write to a closed connection": func(client, _ net.Conn) error {
			_ = client.Close()
			_, err := client.Write(buffer)
			return err
		},
		"reset by the peer": func(client, server net.Conn) error {
			abort(t, server)
			_, err := client.Read(buffer)
			return err
		},
		"write after a reset": func(client, server net.Conn) error {
			abort(t, server)
			_, _ = client.Read(buffer)
			_, err := client.Write(buffer)
			return err
		},
	} {
		got, want := provoked(t, rawconn.New, provoke), provoked(t, plain, provoke)
		if got != want {
			t.Errorf("%s: the error is %q, want %q", name, got, want)
		}
	}
}

// abort makes the peer of a connection see a reset.
func abort(t *testing.T, conn net.Conn) {
	t.Helper()
	linger, ok := conn.(interface{ SetLinger(seconds int) error })
	if !ok {
		t.Fatalf("%T is not a TCP connection", conn)
	}
	if err := linger.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// provoked calls the function provoke, which must cause an error. It returns the text of the error without the
// addresses, or "" if there is no error.
func provoked(t *testing.T, wrap func(net.Conn) net.Conn, provoke func(client, server net.Conn) error) string {
	t.Helper()
	client, server := pair(t, wrap)
	err := provoke(client, server)
	if err == nil {
		return ""
	}
	text := []byte(err.Error())
	for _, address := range []net.Addr{client.LocalAddr(), client.RemoteAddr()} {
		text = bytes.ReplaceAll(text, []byte(address.String()), []byte("address"))
	}
	return string(text)
}

// BenchmarkConn_RareMessages_CPUTime measures the CPU time of messages that arrive every 2 ms in an idle process. It
// reports the cost divided by that of package net in the same run.
func BenchmarkConn_RareMessages_CPUTime(b *testing.B) {
	measure := func(wrap func(net.Conn) net.Conn, messages int) pingtest.Cost {
		client, server := pair(b, wrap)
		go pingtest.Echo(server)
		return pingtest.Measure(b, client, messages)
	}
	for _, procs := range []int{1, max(2, runtime.NumCPU())} {
		b.Run(map[bool]string{true: "OneProcessor", false: "AllProcessors"}[procs == 1], func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			raw := measure(rawconn.New, b.N)
			net := measure(plain, b.N)
			b.ReportMetric(raw.Switches, "switches/op")
			b.ReportMetric(raw.Switches/net.Switches, "switches/plain")
			b.ReportMetric(raw.CPU/net.CPU, "cpu/plain")
		})
	}
}
