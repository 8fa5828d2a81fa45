//go:build race && (amd64 || arm64)

package rawconn

import "syscall"

// The race detector reports false races unless it knows that bytes are written to a connection before they are read.
// The functions of package syscall tell it about reads and writes, but raw system calls do not. So the functions below
// call package syscall in a way that has no other effect.

// sending tells the race detector that a write follows. The detector records every call of syscall.Write, even one that
// fails.
func sending() { _, _ = syscall.Write(-1, nil) }

// received tells the race detector that a read from the file descriptor has succeeded. The detector records every call
// of syscall.Read, even one that reads nothing.
func received(fd uintptr) { _, _ = syscall.Read(int(fd), nil) }
