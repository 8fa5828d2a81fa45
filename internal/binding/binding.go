// Package binding describes how to reach a server. A binding contains the server's address, credentials and TLS
// certificates. It is read from a URI, from a directory at which a Secret is mounted, or from the data of a Secret.
//
// The keys of such a Secret are the ones in the Service Binding specification for Kubernetes
// (https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries), and a few others. The comment on Directory
// describes all of them.
//
// No error of this package quotes a URI or the value of a key, because both may contain a password.
package binding

import (
	"net/url"
	"slices"
)

// Binding is everything that a client needs to reach one server.
type Binding struct {
	// URI is the address of the server. It includes the user name and password if there are any, so never print it.
	// Print the result of Redacted instead.
	URI *url.URL
	// Alternatives are further endpoints of the same server, such as the other nodes of a cluster. Each is a host, or a
	// host and port. Everything else in URI also applies to them. Only bindings of RabbitMQ and Redis have
	// alternatives.
	Alternatives []string
	// Token is a bearer token. Only bindings of HTTP servers have one.
	Token string
	// CA contains the CA certificates that the client trusts, in PEM format. If it is nil, the client trusts the CA
	// certificates of the operating system.
	CA []byte
	// Certificate contains the client's certificate chain and Key contains its private key, both in PEM format. Both
	// are nil if the client has no certificate.
	Certificate, Key []byte
}

// Source returns the current binding. Call it before each connection attempt, so that new credentials take effect
// without a restart. The caller may modify the returned binding.
type Source func() (Binding, error)

// Static returns a source that always returns the same binding.
func Static(b Binding) Source {
	return func() (Binding, error) {
		if b.URI == nil {
			return b, nil
		}
		own, uri := b, *b.URI
		own.URI, own.Alternatives = &uri, slices.Clone(b.Alternatives)
		return own, nil
	}
}

// Redacted returns only those parts of the URI that logs and errors may contain: scheme, host and path. The host is a
// list if the binding has alternatives. Redacted also omits the user name, because users sometimes put a password
// there.
func (b Binding) Redacted() string {
	if b.URI == nil {
		return ""
	}
	shown := url.URL{Scheme: b.URI.Scheme, Host: b.hostList(), Path: b.URI.Path, RawPath: b.URI.RawPath}
	return shown.String()
}

// Service describes the bindings of one kind of server, such as RabbitMQ.
type Service struct {
	// Name is the name of the server in error messages.
	Name string
	// Scheme is the URI scheme for connections without TLS. TLSScheme is the one for connections with TLS. PostgreSQL
	// is an exception: its two schemes mean the same, and the parameter sslmode of the URI selects TLS.
	Scheme, TLSScheme string
	// Example is a valid URI. It is shown in the error for an invalid URI.
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

// PostgreSQL describes the bindings of PostgreSQL servers. The host of a URI may be a list, such as a:5432,b:5432.
func PostgreSQL() Service {
	return Service{
		Name: "PostgreSQL", Scheme: "postgres", TLSScheme: "postgresql",
		Example: example("postgres", "127.0.0.1:5432/parking"),
	}
}

// HTTP describes the bindings of summary APIs, which clients reach over HTTP.
func HTTP() Service {
	return Service{
		Name: "the summary API", Scheme: "http", TLSScheme: "https",
		Example: "http://127.0.0.1:8081",
	}
}

// example returns an example of a URI with a user name and a password.
func example(scheme, rest string) string { return scheme + "://user:password@" + rest }
