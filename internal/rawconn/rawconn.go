// Package rawconn makes TCP connections cheap for processes that are idle most of the time.
//
// After an idle period, a system call wakes Go's monitor thread, which then polls every 20 µs. Polling costs more CPU
// than rare messages. Raw system calls do not wake the thread. They do not block, because the runtime makes sockets
// non-blocking.
package rawconn

import "net"

// New returns a connection that owns conn. For TCP on Linux with amd64 or arm64, it uses raw system calls; otherwise,
// it calls the methods of conn.
func New(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return wrap(tcp)
	}
	return conn
}
