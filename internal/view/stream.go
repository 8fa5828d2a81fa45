package view

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxWrite is the maximum size of one write in bytes. The client must receive the bytes within the timeout of the
// write.
const maxWrite = 32 << 10

// stream is the response to one client. It is compressed if the client accepts gzip. The caller must call close.
type stream struct {
	w           http.ResponseWriter
	control     *http.ResponseController
	timeout     time.Duration // the timeout of each write
	until       time.Time     // the deadline of all writes; zero means no deadline
	acceptsGzip bool
	compressor  *gzip.Writer // nil if the response is not compressed
	begun       bool         // true once a part of the response was written
}

// stream sets the headers that all responses have, and returns a stream that writes the body.
func (v *View) stream(w http.ResponseWriter, r *http.Request) *stream {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept-Encoding")
	return &stream{w: w, control: http.NewResponseController(w), timeout: v.config.writeTimeout, acceptsGzip: acceptsGzip(r)}
}

// acceptsGzip reports whether a client accepts a response that is compressed with gzip.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			text, hasWeight := strings.CutPrefix(strings.TrimSpace(weight), "q=")
			q, err := strconv.ParseFloat(text, 64)
			return !hasWeight || err == nil && q > 0
		}
	}
	return false
}

// limit sets the deadline of all later writes to the given timeout from now.
func (s *stream) limit(timeout time.Duration) { s.until = time.Now().Add(timeout) }

// Write implements io.Writer. It returns an error if the client does not receive the data in time.
func (s *stream) Write(p []byte) (int, error) {
	if !s.begun && s.acceptsGzip {
		s.w.Header().Set("Content-Encoding", "gzip")
		s.compressor, _ = gzip.NewWriterLevel(s.w, compressionLevel) // no error, because compressionLevel is a valid level
	}
	s.begun = true
	var to io.Writer = s.w
	if s.compressor != nil {
		to = s.compressor
	}
	return s.inPieces(to, p)
}

// inPieces writes p in pieces of at most maxWrite bytes. Each write has its own deadline.
func (s *stream) inPieces(to io.Writer, p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		piece := p[:min(len(p), maxWrite)]
		s.extendDeadline()
		var n int
		n, err = to.Write(piece)
		written, p = written+n, p[len(piece):]
	}
	return written, err
}

func (s *stream) extendDeadline() {
	deadline := time.Now().Add(s.timeout)
	if !s.until.IsZero() && s.until.Before(deadline) {
		deadline = s.until
	}
	_ = s.control.SetWriteDeadline(deadline) // SetWriteDeadline fails only in tests whose ResponseWriter has no connection
}

// send sends the data in a spool as the whole response.
func (s *stream) send(from *spool) error {
	if !s.acceptsGzip {
		return s.include(from)
	}
	s.begun = true
	s.w.Header().Set("Content-Encoding", "gzip")
	_, err := io.Copy(writerFunc(func(p []byte) (int, error) { return s.inPieces(s.w, p) }), from)
	return err
}

// include decompresses a spool into the response of s.
func (s *stream) include(from *spool) error {
	data, err := gzip.NewReader(from)
	if err != nil {
		return err // cannot happen, because newSpool has compressed the data with gzip
	}
	_, err = io.Copy(s, data) //nolint:gosec // this process has compressed the data, and bounded it
	return err
}

// writerFunc is a function that implements io.Writer.
type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func (s *stream) flush() error {
	s.extendDeadline()
	if s.compressor != nil {
		if err := s.compressor.Flush(); err != nil {
			return err
		}
	}
	if err := s.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// close ends a compressed response.
func (s *stream) close() {
	if s.compressor != nil {
		_ = s.compressor.Close() // ignore the error: the client has disconnected
	}
}
