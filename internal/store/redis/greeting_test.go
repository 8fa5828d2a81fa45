package redis

import (
	"net"
	"syscall"
	"testing"

	"github.com/parking-operator/parking-operator/internal/polltest"
)

// The client library checks before each command that the connection is open. This expensive read is not necessary while
// there is no data.
func TestChecked_ConnectionIsOpenWithoutData_SkipsTheExpensiveRead(t *testing.T) {
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
		t.Error("the read of an open connection without data is not skipped")
	}
	_ = server.Close()
	polltest.Until(t, "the read is not skipped, because the server has closed the connection", checks)
}
