// Package binding finds out where a server is and how to log in to it, from a URI or from the files of
// a mounted Secret with the keys of the Service Binding specification for Kubernetes
// (https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries).
package binding

import "net/url"

// Address is where a server is and how to log in to it.
type Address struct {
	// URI is the server's, with user name and password if it wants any. It is never to be printed:
	// use Redacted.
	URI *url.URL
	// CA holds the PEM certificates to trust for TLS instead of the system's; nil means the system's.
	CA []byte
}

// Source gives the address anew for each connect, so that rotated credentials are used without a
// restart.
type Source func() (Address, error)

// Redacted returns the URI with its password replaced, for logs and errors.
func (a Address) Redacted() string {
	if a.URI == nil {
		return ""
	}
	return a.URI.Redacted()
}
