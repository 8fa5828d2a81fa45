//go:build race && (amd64 || arm64)

package rawconn

import "syscall"

// The race detector must know that bytes are written to a connection before they are read. Otherwise, it reports false
// races. The functions of package syscall tell the race detector about reads and writes. Raw system calls do not tell
// it, so the functions below call package syscall in a way that has no other effect.

// sending tells the race detector that a write follows. syscall.Write fails, but the detector records the call.
func sending() { _, _ = syscall.Write(-1, nil) }

// received tells the race detector that a read from the file descriptor has succeeded. syscall.Read reads nothing, but
// the detector records the call.
func received(fd uintptr) { _, _ = syscall.Read(int(fd), nil) }
