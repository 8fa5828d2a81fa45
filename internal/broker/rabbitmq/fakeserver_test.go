package rabbitmq_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// method identifies a method of AMQP 0-9-1 by the number of its class and its number in that class.
type method struct{ class, number uint16 }

// The methods that the fake server handles. The response to most of them is the method with the next number.
var (
	connectionStart   = method{10, 10}
	connectionStartOK = method{10, 11}
	connectionTune    = method{10, 30}
	connectionTuneOK  = method{10, 31}
	connectionOpen    = method{10, 40}
	connectionClose   = method{10, 50}
	connectionCloseOK = method{10, 51}
	channelOpen       = method{20, 10}
	channelClose      = method{20, 40}
	channelCloseOK    = method{20, 41}
	exchangeDeclare   = method{40, 10}
	queueDeclare      = method{50, 10}
	queueDelete       = method{50, 40}
	basicPublish      = method{60, 40}
	basicGet          = method{60, 70}
	basicAck          = method{60, 80}
)

// request is a request of a client. The field "name" is set for the methods exchangeDeclare, queueDeclare and basicGet.
// The field "passive" is valid only for declarations.
type request struct {
	method  method
	name    string
	passive bool
}

// rejection is an error with which a server closes a channel or a connection.
type rejection struct {
	closes method // the method that the server sends: channelClose or connectionClose
	code   uint16
	reason string
}

// startFakeServer starts a server that returns errors which RabbitMQ returns only in rare situations. The callback
// reject returns nil to accept a request.
func startFakeServer(t *testing.T, reject func(request) *rejection) (uri string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() {
				defer func() { _ = conn.Close() }()
				c := fakeConnection{in: bufio.NewReader(conn), out: conn, reject: reject}
				c.serve()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		connections.Wait()
	})
	return "amqp://guest:guest@" + listener.Addr().String()
}

type fakeConnection struct {
	in     *bufio.Reader
	out    io.Writer
	reject func(request) *rejection
}

func (c *fakeConnection) serve() {
	if _, err := c.in.Discard(len("AMQP0091")); err != nil {
		return
	}
	start := []byte{0, 9, 0, 0, 0, 0} // AMQP version 0-9, and an empty table of server properties
	c.send(0, connectionStart, appendLong(appendLong(start, "PLAIN"), "en_US"))
	for {
		channel, payload, err := c.receive()
		if err != nil {
			return
		}
		if payload == nil {
			continue
		}
		r := requestIn(payload)
		if rejected := c.reject(r); rejected != nil {
			c.sendRejection(channel, rejected)
			continue
		}
		c.accept(channel, r.method)
	}
}

// receive returns the payload of the next frame, or nil if the frame contains no method.
func (c *fakeConnection) receive() (channel uint16, payload []byte, err error) {
	header := make([]byte, 7) // one byte for the type, two for the channel and four for the size
	if _, err := io.ReadFull(c.in, header); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, binary.BigEndian.Uint32(header[3:])+1) // the payload and the frame-end octet
	if _, err := io.ReadFull(c.in, payload); err != nil {
		return 0, nil, err
	}
	const typeMethod = 1
	if header[0] != typeMethod {
		return 0, nil, nil
	}
	return binary.BigEndian.Uint16(header[1:]), payload[:len(payload)-1], nil
}

func requestIn(payload []byte) request {
	r := request{method: method{binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])}}
	switch r.method {
	case exchangeDeclare, queueDeclare, basicGet:
		name := payload[6:] // skip the method ID (4 bytes) and a reserved number (2 bytes)
		r.name = string(name[1 : 1+name[0]])
		rest := name[1+name[0]:]
		if r.method == exchangeDeclare {
			rest = rest[1+rest[0]:] // skip the type of the exchange
		}
		r.passive = rest[0]&1 != 0
	}
	return r
}

// accept sends the response to a request that the server accepts.
func (c *fakeConnection) accept(channel uint16, m method) {
	var body []byte
	switch m {
	case connectionStartOK:
		// The server permits any number of channels and frames of up to 128 KiB, and requests no heartbeat.
		c.send(0, connectionTune, []byte{0, 0, 0, 2, 0, 0, 0, 0})
		return
	case connectionTuneOK, connectionCloseOK, channelCloseOK:
		return
	case basicPublish:
		c.send(channel, basicAck, []byte{0, 0, 0, 0, 0, 0, 0, 1, 0}) // confirms the first message of the channel
		return
	case basicGet:
		c.send(channel, method{m.class, 72}, []byte{0}) // basic.get-empty: the queue is empty
		return
	case connectionOpen:
		body = make([]byte, 1)
	case channelOpen, queueDelete:
		body = make([]byte, 4)
	case queueDeclare:
		body = make([]byte, 9) // the reply to queue.declare: an empty name, 0 messages, 0 consumers
	}
	c.send(channel, method{m.class, m.number + 1}, body)
}

func (c *fakeConnection) sendRejection(channel uint16, r *rejection) {
	if r.closes == connectionClose {
		channel = 0
	}
	body := binary.BigEndian.AppendUint16(nil, r.code)
	body = append(append(body, byte(len(r.reason))), r.reason...)
	c.send(channel, r.closes, append(body, 0, 0, 0, 0)) // zeros mean that no class and method are named
}

// send sends a method. It ignores errors, because the next read from the broken connection fails too.
func (c *fakeConnection) send(channel uint16, m method, body []byte) {
	frame := []byte{1} // frame type 1: a method
	frame = binary.BigEndian.AppendUint16(frame, channel)
	frame = binary.BigEndian.AppendUint32(frame, uint32(4+len(body)))
	frame = binary.BigEndian.AppendUint16(frame, m.class)
	frame = binary.BigEndian.AppendUint16(frame, m.number)
	frame = append(append(frame, body...), 0xCE) // the frame-end octet of AMQP
	_, _ = c.out.Write(frame)
}

// appendLong appends a value of the AMQP type long string.
func appendLong(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
