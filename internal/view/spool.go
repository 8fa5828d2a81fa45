package view

import (
	"compress/gzip"
	"errors"
	"io"

	"golang.org/x/sync/semaphore"
)

const (
	// spoolChunk is the size of a chunk of a spool in bytes.
	spoolChunk = 64 << 10
	// maxSpooled is the maximum size of all spools of a View. A timeline of maxRows rows takes about 2.5 MB.
	maxSpooled = 32 << 20
	// compressionLevel is the level for gzip. Level 5 is twice as fast as the default, and its output is hardly larger.
	compressionLevel = 5
)

// errSpoolFull is returned if the responses that slow clients have not received yet take too much memory.
var errSpoolFull = errors.New("too many timelines are being sent")

// spool holds a compressed response until the client has received it, so that the rows need not stay in memory. The
// owner of a spool must call free.
type spool struct {
	// budget limits the bytes of all spools together.
	budget *semaphore.Weighted
	chunks [][]byte
}

// newSpool returns a spool with the data that a function writes.
func newSpool(budget *semaphore.Weighted, write func(io.Writer) error) (*spool, error) {
	s := &spool{budget: budget}
	compressor, err := gzip.NewWriterLevel(s, compressionLevel)
	if err == nil {
		err = errors.Join(write(compressor), compressor.Close())
	}
	if err != nil {
		s.free()
		return nil, err
	}
	return s, nil
}

// Write implements io.Writer. It returns errSpoolFull if the budget is used up.
func (s *spool) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		last := len(s.chunks) - 1
		if last < 0 || len(s.chunks[last]) == spoolChunk {
			if !s.budget.TryAcquire(spoolChunk) {
				return written, errSpoolFull
			}
			s.chunks = append(s.chunks, make([]byte, 0, spoolChunk))
			last++
		}
		n := min(len(p), spoolChunk-len(s.chunks[last]))
		s.chunks[last] = append(s.chunks[last], p[:n]...)
		written, p = written+n, p[n:]
	}
	return written, nil
}

// Read implements io.Reader. It frees each chunk that has been read completely.
func (s *spool) Read(p []byte) (int, error) {
	for len(s.chunks) > 0 && len(s.chunks[0]) == 0 {
		s.chunks[0] = nil // let the garbage collector free the chunk
		s.chunks = s.chunks[1:]
		s.budget.Release(spoolChunk)
	}
	if len(s.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.chunks[0])
	s.chunks[0] = s.chunks[0][n:]
	return n, nil
}

// free releases the memory of the chunks that have not been read.
func (s *spool) free() {
	s.budget.Release(int64(len(s.chunks)) * spoolChunk)
	s.chunks = nil
}
