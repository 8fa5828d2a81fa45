package rabbitmq

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// readBuffer is the size of the buffer for reads from the socket. The client library's own buffer has only
	// 4 KiB.
	readBuffer = 64 << 10
	// maxUnwritten is the size at which the write buffer is full. A write then blocks, as on a socket whose peer does
	// not read.
	maxUnwritten = 256 << 10
	// lastWrite is the time limit for writing the rest of the write buffer when the connection is closed.
	lastWrite = time.Second
)

var errWireClosed = errors.New("connection is closed")

// wire is the transport of an AMQP connection. It saves one system call for each sent frame, and one change of the
// read deadline for each received frame.
type wire struct {
	conn net.Conn
	in   *bufio.Reader

	mu        sync.Mutex
	changed   sync.Cond
	unwritten []byte
	err       error
	done      chan struct{} // closed when the writing goroutine has ended and conn is closed
}

// newWire returns a wire that owns conn. The parameter silence is the timeout of each read from conn.
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

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.in.Read(p)
	if err != nil {
		// Writes must fail too; otherwise, the client library would wait forever for a blocked write.
		w.fail(err)
	}
	return n, err
}

// Write appends p to the write buffer. One system call sends all frames that were appended during the previous one.
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

// Close returns at once. The connection is closed when the buffered bytes are written, but at the latest after
// lastWrite.
func (w *wire) Close() error {
	// The deadline also ends a write that is blocked because the peer does not read.
	_ = w.conn.SetWriteDeadline(time.Now().Add(lastWrite))
	w.fail(errWireClosed)
	return nil
}

// abort closes the connection at once. Bytes in the write buffer are lost.
func (w *wire) abort() {
	w.fail(errWireClosed)
	_ = w.conn.Close()
}

// fail makes all further writes return err, unless the wire has already failed with another error.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		w.changed.Broadcast()
	}
}

// failure returns the first error of the connection, or nil if there was none.
func (w *wire) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// write sends the buffered bytes to the socket until the wire fails or is closed. Then it tries to send the rest, and
// closes the socket.
func (w *wire) write() {
	defer close(w.done)
	defer func() { _ = w.conn.Close() }()
	var spare []byte
	for {
		batch, more := w.swapUnwritten(spare)
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

// swapUnwritten waits until the write buffer contains bytes, and returns these bytes. The given slice becomes the new
// write buffer. The second result is false if no bytes will follow.
func (w *wire) swapUnwritten(spare []byte) (batch []byte, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.unwritten) == 0 && w.err == nil {
		w.changed.Wait()
	}
	batch, w.unwritten = w.unwritten, spare[:0]
	w.changed.Broadcast()
	return batch, w.err == nil
}

// impatientReader sets the read deadline, which detects a dead peer, before each system call. A wire has no method
// SetReadDeadline, because the client library would call it for each frame.
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

// withoutAddresses removes the addresses from a network error, so that the same fault has the same text on every
// connection. TLS alerts stay unchanged.
func withoutAddresses(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Source != nil || op.Addr != nil) {
		return op.Err
	}
	return err
}
