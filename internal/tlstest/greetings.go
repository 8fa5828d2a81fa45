package tlstest

import "encoding/binary"

// Greetings returns, by protocol, the first bytes that a client without TLS sends. A server that accepts connections
// without TLS answers a complete greeting of its protocol. If a greeting is incomplete, even such a server does not
// answer. So a test that expects no answer must send a complete greeting.
func Greetings() map[string]string {
	return map[string]string{
		"AMQP":                "AMQP\x00\x00\x09\x01",
		"Redis":               "PING\r\n",
		"HTTP":                "GET / HTTP/1.0\r\n\r\n",
		"Erlang distribution": distributionGreeting(),
		"epmd":                "\x00\x01n", // NAMES_REQ, which lists the registered nodes
	}
}

// distributionGreeting returns the first message that an Erlang node sends to another node, in the format of Erlang/OTP
// 23 and later: the length of the message, the letter N, the capabilities of the node, its creation (a number that
// changes when the node restarts), the length of its name, and its name. The capabilities are those that Erlang/OTP 27
// and all earlier versions require. The node is hidden, so it does not become a member of a cluster.
func distributionGreeting() string {
	const capabilities, creation, name = 0x4_0707_0f94, 1, "greeting@localhost"
	message := binary.BigEndian.AppendUint64([]byte("N"), capabilities)
	message = binary.BigEndian.AppendUint32(message, creation)
	message = binary.BigEndian.AppendUint16(message, uint16(len(name)))
	message = append(message, name...)
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(message)))) + string(message)
}
