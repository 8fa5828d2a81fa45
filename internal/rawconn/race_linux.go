//go:build race && (amd64 || arm64)

package rawconn

import "syscall"

// The race detector takes what happens before a write of a connection to happen before the read that returns its bytes.
// It learns this from functions of package syscall, which raw system calls bypass. So the functions below call them,
// in a way that has no other effect.

// sending tells the race detector that a write follows.
func sending() { _, _ = syscall.Write(-1, nil) }

// received tells the race detector that a read from the file descriptor has succeeded.
func received(fd uintptr) { _, _ = syscall.Read(int(fd), nil) }
