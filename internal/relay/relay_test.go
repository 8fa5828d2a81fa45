package relay_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/relay"
)

// serveEcho starts a server that sends each line back to the client. It returns the address of the server.
func serveEcho(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

func listen(t *testing.T, server string) *relay.Relay {
	t.Helper()
	r, err := relay.Listen(t.Context(), "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// dial connects to the relay, with the given loopback address as the address of the client.
func dial(t *testing.T, r *relay.Relay, from string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
	c, err := dialer.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// echo sends a line. It returns an error if the line is not sent back.
func echo(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "hello\n" {
		return errors.New("received " + strings.TrimSpace(line))
	}
	return err
}

func TestRelayCut_ClosesAndRejectsConnectionsOfTheGivenClients(t *testing.T) {
	for _, tt := range []struct {
		name string
		from []netip.Addr // the clients that the test cuts off; all clients if empty
		// works says whether the clients 127.0.0.2 and 127.0.0.3 can use the server after the cut.
		works [2]bool
	}{
		{"all", nil, [2]bool{false, false}},
		{"one", []netip.Addr{netip.MustParseAddr("127.0.0.2")}, [2]bool{false, true}},
		{"another", []netip.Addr{netip.MustParseAddr("127.0.0.9")}, [2]bool{true, true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := listen(t, serveEcho(t))
			clients := []string{"127.0.0.2", "127.0.0.3"}
			var before []net.Conn
			for _, from := range clients {
				c := dial(t, r, from)
				if err := echo(c); err != nil {
					t.Fatal(err)
				}
				before = append(before, c)
			}
			cut := r.Cut(tt.from...)
			var want int
			for i, from := range clients {
				if !tt.works[i] {
					want += 2 // the relay closes the client's open connection and rejects its new one
				}
				if err := echo(before[i]); (err == nil) != tt.works[i] {
					t.Errorf("an open connection from %s: %v", from, err)
				}
				if err := echo(dial(t, r, from)); (err == nil) != tt.works[i] {
					t.Errorf("a new connection from %s: %v", from, err)
				}
			}
			if got := cut.Connections(); got != want {
				t.Errorf("%d connections were closed or rejected, want %d", got, want)
			}
			cut.Restore()
			for _, from := range clients {
				if err := echo(dial(t, r, from)); err != nil {
					t.Errorf("a connection from %s after the cut: %v", from, err)
				}
			}
		})
	}
}

func TestRelayCut_FirstOfTwoCutsEnds_SecondStaysInEffect(t *testing.T) {
	t.Parallel()
	r := listen(t, serveEcho(t))
	first, second := r.Cut(), r.Cut()
	first.Restore()
	if err := echo(dial(t, r, "127.0.0.1")); err == nil {
		t.Error("the end of one cut ended another")
	}
	second.Restore()
	if err := echo(dial(t, r, "127.0.0.1")); err != nil {
		t.Error(err)
	}
}

func TestRelay_ServerIsDown_ClosesTheConnection(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:1")
	if err := echo(dial(t, r, "127.0.0.1")); err == nil {
		t.Error("the client received an answer")
	}
}

func TestRelay_OneSideCloses_ClosesTheOtherSide(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	r := listen(t, listener.Addr().String())
	client := dial(t, r, "127.0.0.1")
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := server.Read(make([]byte, 1))
		ended <- err
	}()
	polltest.Until(t, "the server notices the end", func() bool { return len(ended) == 1 })
	if err := <-ended; err == nil {
		t.Error("the server received data")
	}
}
