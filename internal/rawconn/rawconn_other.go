//go:build !linux || !(amd64 || arm64)

package rawconn

import "net"

// Conn is a TCP connection.
type Conn struct{ *net.TCPConn }

func wrap(tcp *net.TCPConn) net.Conn { return &Conn{tcp} }

// IsQuiet returns false, because this implementation cannot check whether the connection is open and has no data to
// read.
func (*Conn) IsQuiet() bool { return false }
