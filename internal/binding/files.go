package binding

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// ExplainFiles returns what the user can do about too many open files, or "" for other errors.
func ExplainFiles(err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || lookupHasTooManyFiles(err) {
		return "this process has too many open files: raise their limit (ulimit -n)"
	}
	return ""
}

// lookupHasTooManyFiles recognizes a DNS lookup that cannot open its socket.
func lookupHasTooManyFiles(err error) bool {
	lookup, ok := errors.AsType[*net.DNSError](err)
	// A DNSError contains its cause only as text. The text of EMFILE is a prefix of the text of ENFILE.
	return ok && strings.Contains(lookup.Err, syscall.EMFILE.Error())
}
