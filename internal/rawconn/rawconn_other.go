//go:build !linux || !(amd64 || arm64)

package rawconn

import "net"

// Conn is a TCP connection.
type Conn struct{ *net.TCPConn }

func wrap(tcp *net.TCPConn) net.Conn { return &Conn{tcp} }

// IsQuiet reports whether the connection is known to be open, with nothing to read.
func (*Conn) IsQuiet() bool { return false }
