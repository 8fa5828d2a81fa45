// Package binding reads how to reach a server: its address, credentials and certificates. No error quotes a URI or the
// value of a key, because both may contain a password.
//
// The keys of a Secret extend those of https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries.
// docs/operations.md describes all keys.
package binding

import (
	"net/url"
	"slices"
)

// Binding is everything that a client needs to reach one server.
type Binding struct {
	// URI is the address of the server. It may contain a password: print Redacted instead.
	URI *url.URL
	// Alternatives are further hosts of the same server, with or without a port. The other parts of URI, such as the
	// credentials, apply to every host. Only RabbitMQ and Redis have alternatives.
	Alternatives []string
	// Token is a bearer token. Only bindings of HTTP servers have one.
	Token string
	// CA contains CA certificates in PEM format. If it is nil, the client trusts those of the operating system.
	CA []byte
	// Certificate and Key are in PEM format. Both are nil if the client has no certificate.
	Certificate, Key []byte
}

// Source returns the current binding, which the caller may modify. Call it before each connection attempt, so that new
// credentials take effect without a restart.
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

// Redacted returns the parts of the URI that logs and errors may contain. It omits even the user name, because users
// sometimes put a password there.
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
	// Scheme is for connections without TLS, TLSScheme for connections with TLS. The PostgreSQL schemes are equivalent:
	// the parameter sslmode selects TLS.
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
