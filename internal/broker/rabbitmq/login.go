package rabbitmq

import amqp "github.com/rabbitmq/amqp091-go"

// login announces the client capability authentication_failure_close. Without the capability, RabbitMQ closes the
// connection after 3 s and gives no reason for the rejected login.
type login struct {
	amqp.Authentication

	properties amqp.Table
}

// Response returns the credentials, and adds the capability authentication_failure_close. The client library calls
// Response after it has set its own capabilities and before it sends them.
func (l login) Response() string {
	if capabilities, ok := l.properties["capabilities"].(amqp.Table); ok {
		capabilities["authentication_failure_close"] = true
	}
	return l.Authentication.Response()
}

// announced wraps each mechanism in a login. The parameter properties must be the table of client properties that the
// client library sends to the server.
func announced(mechanisms []amqp.Authentication, properties amqp.Table) []amqp.Authentication {
	logins := make([]amqp.Authentication, len(mechanisms))
	for i, mechanism := range mechanisms {
		logins[i] = login{mechanism, properties}
	}
	return logins
}
