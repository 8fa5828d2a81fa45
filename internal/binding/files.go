package binding

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// ExplainFiles returns what the user can do about an error that is caused by too many open files. It returns "" for
// other errors. The error may be that of a DNS lookup, which needs a socket as well.
func ExplainFiles(err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || lookupHasTooManyFiles(err) {
		return "this process has too many open files: raise their limit (ulimit -n)"
	}
	return ""
}

// lookupHasTooManyFiles reports whether the lookup of a host name failed because the process (EMFILE) or the system
// (ENFILE) has too many open files. A DNSError contains its cause only as text. The texts of both causes begin with the
// text of EMFILE.
func lookupHasTooManyFiles(err error) bool {
	lookup, ok := errors.AsType[*net.DNSError](err)
	return ok && strings.Contains(lookup.Err, syscall.EMFILE.Error())
}
