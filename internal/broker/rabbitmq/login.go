package rabbitmq

import amqp "github.com/rabbitmq/amqp091-go"

// login is an authentication mechanism of a client that understands why a login is rejected. If a client does not announce
// that, RabbitMQ closes the connection without a reason, and only after 3 s. This is longer than some attempts to connect
// may take, in particular if there are several addresses.
//
// The client library announces its own capabilities only. It sets them just before it calls Response.
type login struct {
	amqp.Authentication

	properties amqp.Table
}

// Response returns the credentials, and adds the capability to the properties of the client.
func (l login) Response() string {
	if capabilities, ok := l.properties["capabilities"].(amqp.Table); ok {
		capabilities["authentication_failure_close"] = true
	}
	return l.Authentication.Response()
}

// announced returns the mechanisms for a client with the given properties.
func announced(mechanisms []amqp.Authentication, properties amqp.Table) []amqp.Authentication {
	logins := make([]amqp.Authentication, len(mechanisms))
	for i, mechanism := range mechanisms {
		logins[i] = login{mechanism, properties}
	}
	return logins
}
