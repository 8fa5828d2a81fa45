package rabbitmq

import amqp "github.com/rabbitmq/amqp091-go"

// login is an authentication mechanism that also announces the client capability authentication_failure_close. Without
// this capability, RabbitMQ gives no reason when it rejects a login: it only closes the connection, after 3 s. An
// attempt to connect may time out before that, in particular if there are several addresses.
//
// The client library does not announce this capability. It sets the capabilities just before it calls Response, so the
// capability can only be added in Response.
type login struct {
	amqp.Authentication

	properties amqp.Table
}

// Response returns the credentials. It also adds the capability authentication_failure_close to the client properties,
// which the client library sends together with the credentials.
func (l login) Response() string {
	if capabilities, ok := l.properties["capabilities"].(amqp.Table); ok {
		capabilities["authentication_failure_close"] = true
	}
	return l.Authentication.Response()
}

// announced wraps each mechanism in the type login, which modifies the given table of client properties. It must be the
// table that the client library sends to the server.
func announced(mechanisms []amqp.Authentication, properties amqp.Table) []amqp.Authentication {
	logins := make([]amqp.Authentication, len(mechanisms))
	for i, mechanism := range mechanisms {
		logins[i] = login{mechanism, properties}
	}
	return logins
}
