// Package binding describes how to reach a server: its address, its credentials and its TLS material. It reads them
// from a URI, from a folder at which a Secret is mounted, or from the data of a Secret.
//
// The keys of a Secret are those of the Service Binding specification for Kubernetes
// (https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries) and a few more, which Folder documents.
//
// No error of this package quotes a URI or the value of a key, because either may contain a password.
package binding

import "net/url"

// Binding is everything that a client needs to reach one server.
type Binding struct {
	// URI is the address of the server, including the user name and password if there are any. Never print it; print
	// Redacted instead.
	URI *url.URL
	// Token is a bearer token. Only bindings of HTTP servers have one.
	Token string
	// CA holds the CA certificates that the client trusts, in PEM. If it is nil, the client trusts the CAs of the
	// system.
	CA []byte
	// Certificate and Key are the client's certificate chain and private key in PEM. Both are nil if the
	// client has no certificate.
	Certificate, Key []byte
}

// Source returns the current binding. Call it before each connection attempt, so that rotated credentials take effect
// without a restart. The caller may modify the binding that it returns.
type Source func() (Binding, error)

// Static returns a source that always returns the same binding.
func Static(b Binding) Source {
	return func() (Binding, error) {
		if b.URI == nil {
			return b, nil
		}
		own, uri := b, *b.URI
		own.URI = &uri
		return own, nil
	}
}

// Redacted returns the part of the URI that logs and errors may contain: scheme, host and path. It omits the user
// name too, because users sometimes put a password there.
func (b Binding) Redacted() string {
	if b.URI == nil {
		return ""
	}
	shown := url.URL{Scheme: b.URI.Scheme, Host: b.URI.Host, Path: b.URI.Path, RawPath: b.URI.RawPath}
	return shown.String()
}

// Service describes the bindings of one kind of server, such as RabbitMQ.
type Service struct {
	// Name is the name of the server in error messages.
	Name string
	// Scheme and TLSScheme are the URI schemes without and with TLS.
	Scheme, TLSScheme string
	// Example is a valid URI, which the error for an invalid URI shows.
	Example string
}

// RabbitMQ describes the bindings of RabbitMQ servers.
func RabbitMQ() Service {
	return Service{
		Name: "RabbitMQ", Scheme: "amqp", TLSScheme: "amqps",
		Example: example("amqp", "127.0.0.1:5672/"),
	}
}

// Redis describes the bindings of Redis and Valkey servers.
func Redis() Service {
	return Service{
		Name: "Redis", Scheme: "redis", TLSScheme: "rediss",
		Example: example("redis", "127.0.0.1:6379/0"),
	}
}

// HTTP describes the bindings of summary APIs.
func HTTP() Service {
	return Service{
		Name: "the summary API", Scheme: "http", TLSScheme: "https",
		Example: "http://127.0.0.1:8081",
	}
}

// example inserts placeholders for the user name and password into a URI.
func example(scheme, rest string) string { return scheme + "://user:password@" + rest }
