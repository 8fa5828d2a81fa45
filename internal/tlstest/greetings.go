package tlstest

import "encoding/binary"

// Greetings returns, by protocol, a complete first message of a client without TLS.
func Greetings() map[string]string {
	return map[string]string{
		"AMQP":                "AMQP\x00\x00\x09\x01",
		"Redis":               "PING\r\n",
		"HTTP":                "GET / HTTP/1.0\r\n\r\n",
		"Erlang distribution": distributionGreeting(),
		"epmd":                "\x00\x01n", // NAMES_REQ: list the registered nodes
	}
}

// distributionGreeting returns the first message that an Erlang node sends to another node, in the format of
// Erlang/OTP 23 and later.
func distributionGreeting() string {
	// Erlang/OTP up to 27 requires these capabilities of a hidden node, which joins no cluster.
	const capabilities, creation, name = 0x4_0707_0f94, 1, "greeting@localhost"
	message := binary.BigEndian.AppendUint64([]byte("N"), capabilities)
	message = binary.BigEndian.AppendUint32(message, creation)
	message = binary.BigEndian.AppendUint16(message, uint16(len(name)))
	message = append(message, name...)
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(message)))) + string(message)
}
