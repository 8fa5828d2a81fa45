//go:build amd64 || arm64

package rawconn

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// Conn is a TCP connection that reads and writes with raw system calls.
type Conn struct {
	*net.TCPConn

	raw syscall.RawConn
}

func wrap(tcp *net.TCPConn) net.Conn {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return tcp
	}
	return &Conn{TCPConn: tcp, raw: raw}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	var failure syscall.Errno
	err = c.raw.Read(func(fd uintptr) bool {
		if n, failure = call(syscall.SYS_READ, fd, p); failure == 0 {
			received(fd)
		}
		return failure != syscall.EAGAIN
	})
	switch {
	case err != nil || failure != 0:
		return 0, c.explain("read", err, failure)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (written int, err error) {
	sending()
	var failure syscall.Errno
	err = c.raw.Write(func(fd uintptr) bool {
		for written < len(p) {
			var n int
			if n, failure = call(syscall.SYS_WRITE, fd, p[written:]); failure != 0 {
				return failure != syscall.EAGAIN
			}
			written += n
		}
		return true
	})
	if err != nil || failure != 0 {
		return written, c.explain("write", err, failure)
	}
	return written, nil
}

// IsQuiet reports whether it is certain that the connection is open and has no data to read.
func (c *Conn) IsQuiet() bool {
	quiet := false
	_ = c.raw.Control(func(fd uintptr) { // Control fails only if c is closed; IsQuiet then returns false
		var b [1]byte
		_, _, failure := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), unsafe.Sizeof(b), syscall.MSG_PEEK, 0, 0) //nolint:gosec // package unsafe documents this use
		quiet = failure == syscall.EAGAIN
	})
	return quiet
}

// call makes a system call that reads into the buffer p or writes from p. If a signal interrupts the system call, call
// repeats it.
func call(trap, fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, failure := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))) //nolint:gosec // package unsafe documents this use
		switch failure {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, failure
		}
	}
}

// explain returns the error that package net would return for the same failure of a system call.
func (c *Conn) explain(operation string, err error, failure syscall.Errno) error {
	if err == nil {
		err = os.NewSyscallError(operation, failure)
	} else if wrapped, ok := errors.AsType[*net.OpError](err); ok {
		err = wrapped.Err // omit the field Op of this error, which is "raw-read" or "raw-write"
	}
	return &net.OpError{Op: operation, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
