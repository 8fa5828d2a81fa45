package redis

import (
	"net"
	"syscall"
	"testing"

	"github.com/parking-operator/parking-operator/internal/polltest"
)

// Before the client library uses an idle connection, it reads from the socket to check that the server has not closed
// the connection. This read costs a system call. It is skipped as long as the poller of the Go runtime has reported
// neither data nor the end of the connection.
func TestWithGreeting_IdleConnection_IsCheckedOnlyAfterServerCloses(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := withGreeting(net.Dial("tcp", listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	checks := func() (checked bool) {
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Read(func(uintptr) bool {
			checked = true
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return checked
	}
	if checks() {
		t.Error("an open connection without data is checked")
	}
	_ = server.Close()
	polltest.Until(t, "a connection that the server has closed is checked", checks)
}
