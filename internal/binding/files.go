package binding

import (
	"errors"
	"syscall"
)

// ExplainFiles returns what the user can do about a connection error that is caused by too many open files. It
// returns "" for other errors.
func ExplainFiles(err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return "this process has too many open files: raise their limit (ulimit -n)"
	}
	return ""
}
