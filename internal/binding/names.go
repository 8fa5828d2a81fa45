package binding

import (
	"errors"
	"net"
)

// ExplainName returns what the user can do about a host name that was not resolved. It returns "" for other errors.
func ExplainName(err error) string {
	lookup, ok := errors.AsType[*net.DNSError](err)
	switch {
	case !ok, ExplainFiles(err) != "":
		return ""
	case isDNSFault(lookup):
		return "check the DNS server: it cannot resolve the host name at the moment"
	}
	return "correct the host name"
}

// isDNSFault reports whether a lookup failed although the host name may exist, for example because no DNS server
// responds.
func isDNSFault(lookup *net.DNSError) bool {
	return !lookup.IsNotFound && (lookup.IsTimeout || lookup.IsTemporary)
}

// IsTemporary reports whether an error has a temporary cause on this side of a connection: too many open files, or DNS.
// The address and the credentials may be correct.
func IsTemporary(err error) bool {
	lookup, ok := errors.AsType[*net.DNSError](err)
	return ExplainFiles(err) != "" || ok && isDNSFault(lookup)
}
