// Package binding finds out where a server is and how to log in to it, from a URI or from the files of
// a mounted Secret with the keys of the Service Binding specification for Kubernetes
// (https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries).
//
// Passwords never leave it but inside an Address: no error quotes a URI or the content of a file.
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

// Redacted returns what of the URI may be printed, in logs and errors: its scheme, host and path. Even
// the user name is left out, because people put passwords in its place.
func (a Address) Redacted() string {
	if a.URI == nil {
		return ""
	}
	shown := url.URL{Scheme: a.URI.Scheme, Host: a.URI.Host, Path: a.URI.Path, RawPath: a.URI.RawPath}
	return shown.String()
}

// Service describes the addresses of one kind of server.
type Service struct {
	// Name is the server's, for errors.
	Name string
	// Scheme and TLSScheme are the schemes of its URIs.
	Scheme, TLSScheme string
	// Example is a URI to show to a person whose own is not valid.
	Example string
}

// RabbitMQ is the service that brokers are.
func RabbitMQ() Service {
	return Service{
		Name: "RabbitMQ", Scheme: "amqp", TLSScheme: "amqps",
		Example: example("amqp", "127.0.0.1:5672/"),
	}
}

// Redis is the service that stores are: Redis or Valkey.
func Redis() Service {
	return Service{
		Name: "Redis", Scheme: "redis", TLSScheme: "rediss",
		Example: example("redis", "127.0.0.1:6379/0"),
	}
}

// HTTP is the service that summary APIs are.
func HTTP() Service {
	return Service{
		Name: "the summary API", Scheme: "http", TLSScheme: "https",
		Example: "http://127.0.0.1:8081",
	}
}

// example shows where in a URI the credentials go.
func example(scheme, rest string) string { return scheme + "://user:password@" + rest }
