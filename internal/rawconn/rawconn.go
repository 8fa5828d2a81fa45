// Package rawconn makes TCP connections cheap for processes that are idle most of the time.
//
// The Go runtime has a monitor thread, which sleeps while all goroutines wait. The first system call after such a wait
// wakes the thread, in case the call blocks. The thread then polls every 20 µs until all goroutines wait again. At a
// few hundred messages per second, this costs more CPU than the messages themselves.
//
// Reads and writes of a TCP connection do not block, because the runtime puts sockets into non-blocking mode. So the
// connections of this package read and write with raw system calls, which the runtime does not notice.
package rawconn

import "net"

// New returns a connection that reads from and writes to conn. Closing the returned connection closes conn. If conn is
// not a TCP connection, New returns conn itself. The returned connection uses raw system calls only on Linux on amd64
// and arm64. On other systems, it calls the methods of conn.
func New(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return wrap(tcp)
	}
	return conn
}
