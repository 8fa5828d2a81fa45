package binding

import (
	"errors"
	"syscall"
)

// ExplainFiles returns the remedy if a connection failed because this process or its system has too many open files, and
// "" for other errors.
func ExplainFiles(err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return "this process has too many open files: raise their limit (ulimit -n)"
	}
	return ""
}
