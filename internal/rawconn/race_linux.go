//go:build race && (amd64 || arm64)

package rawconn

import "syscall"

// The race detector orders what happens before a write to a connection before what happens after the read of the same
// bytes. The functions of package syscall tell it about reads and writes. Raw system calls do not, so the functions
// below call package syscall in a way that has no other effect.

// sending tells the race detector that a write follows.
func sending() { _, _ = syscall.Write(-1, nil) }

// received tells the race detector that a read from the file descriptor has succeeded.
func received(fd uintptr) { _, _ = syscall.Read(int(fd), nil) }
