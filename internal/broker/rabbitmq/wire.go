package rabbitmq

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// readBuffer is what one read asks of the socket; the client library's own buffer is 4 KiB.
	readBuffer = 64 << 10
	// maxUnwritten bounds the bytes that wait for the socket; beyond it a write blocks, as it would on a
	// socket whose peer does not read.
	maxUnwritten = 256 << 10
	// lastWrite bounds how long a close waits for the socket to take what is still unwritten.
	lastWrite = time.Second
)

var errWireClosed = errors.New("connection is closed")

// wire is the transport below one AMQP connection. The client library flushes after each publishing and
// each acknowledgement and wakes a goroutine at each frame that it reads; at thousands of messages per
// second that is most of what it costs. A wire makes two differences:
//
//   - A write only appends to a buffer, which a goroutine of its own writes to the socket. What arrives
//     during one system call leaves with the next, so they become rare as soon as there is much to write,
//     and a lone frame leaves at once.
//   - A read sets the deadline that detects a dead peer, once for each system call. Because a wire has no
//     SetReadDeadline, the library does not set one for each frame.
//
// When a read fails, so does every write, also one that is blocked; the library would wait for that write
// for ever.
type wire struct {
	conn net.Conn
	in   *bufio.Reader

	mu        sync.Mutex
	changed   sync.Cond
	unwritten []byte
	err       error
	done      chan struct{} // closed when the writing goroutine has ended and conn is closed
}

// newWire takes conn over. A peer that sends nothing for silence is taken for dead.
func newWire(conn net.Conn, silence time.Duration) *wire {
	w := &wire{
		conn: conn,
		in:   bufio.NewReaderSize(impatientReader{conn: conn, silence: silence}, readBuffer),
		done: make(chan struct{}),
	}
	w.changed.L = &w.mu
	go w.write()
	return w
}

// Read reads from the socket.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	if err != nil {
		w.fail(err)
	}
	return n, err
}

// Write takes p to be written. An error is that of an earlier write or read.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.unwritten) >= maxUnwritten && w.err == nil {
		w.changed.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	w.unwritten = append(w.unwritten, p...)
	w.changed.Broadcast()
	return len(p), nil
}

// Close ends the wire soon, after what is unwritten has been written.
func (w *wire) Close() error {
	// The deadline also ends a write that is under way to a peer that does not read.
	_ = w.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	w.fail(errWireClosed)
	return nil
}

// abort ends the wire at once.
func (w *wire) abort() {
	w.fail(errWireClosed)
	_ = w.conn.Close()
}

// fail makes err the result of all writes from now on, unless another error is already.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		w.changed.Broadcast()
	}
}

// write writes to the socket whatever there is, until the wire fails or is closed.
func (w *wire) write() {
	defer close(w.done)
	defer func() { _ = w.conn.Close() }()
	var spare []byte
	for {
		batch, more := w.take(spare)
		if len(batch) > 0 {
			if _, err := w.conn.Write(batch); err != nil {
				w.fail(withoutAddresses(err))
				return
			}
		}
		if !more {
			return
		}
		spare = batch
	}
}

// take waits for unwritten bytes and exchanges their buffer for spare. It reports false when there will
// be no more of them.
func (w *wire) take(spare []byte) (batch []byte, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.unwritten) == 0 && w.err == nil {
		w.changed.Wait()
	}
	batch, w.unwritten = w.unwritten, spare[:0]
	w.changed.Broadcast()
	return batch, w.err == nil
}

// impatientReader reads from conn and gives up when nothing arrives for too long.
type impatientReader struct {
	conn    net.Conn
	silence time.Duration
}

func (r impatientReader) Read(p []byte) (int, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.silence)); err != nil {
		return 0, err
	}
	n, err := r.conn.Read(p)
	return n, withoutAddresses(err)
}

// withoutAddresses drops from a network error the addresses that differ from one connection to the next,
// so that the same fault has the same text each time.
func withoutAddresses(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
