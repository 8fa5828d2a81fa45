package binding

import (
	"errors"
	"net"
	"strings"
	"syscall"
)

// ExplainFiles returns what the user can do about an error that is caused by too many open files. It returns "" for
// other errors. Call ExplainFiles before ExplainName, because the first socket that a connection to a host name needs
// is that of the DNS client.
func ExplainFiles(err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || lookupHasTooManyFiles(err) {
		return "this process has too many open files: raise their limit (ulimit -n)"
	}
	return ""
}

// lookupHasTooManyFiles reports whether the lookup of a host name failed because of too many open files. A DNSError
// contains only the text of its cause, so the text is compared. One comparison finds both causes, because the text of
// ENFILE begins with the text of EMFILE.
func lookupHasTooManyFiles(err error) bool {
	lookup, ok := errors.AsType[*net.DNSError](err)
	return ok && strings.Contains(lookup.Err, syscall.EMFILE.Error())
}
