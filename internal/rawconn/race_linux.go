//go:build race && (amd64 || arm64)

package rawconn

import "syscall"

// The race detector must see each write before its read, or it reports false races. It sees calls of package syscall,
// but not raw system calls.

// sending tells the race detector that a write follows. The detector records every call of syscall.Write, even one that
// fails.
func sending() { _, _ = syscall.Write(-1, nil) }

// received tells the race detector that a read from the file descriptor has succeeded. The detector records every call
// of syscall.Read, even one that reads nothing.
func received(fd uintptr) { _, _ = syscall.Read(int(fd), nil) }
