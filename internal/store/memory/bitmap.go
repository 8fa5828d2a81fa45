package memory

import (
	"slices"
	"strings"

	"github.com/parking-operator/parking-operator/internal/store"
)

// bitmaps stores one bit for each generator run and sequence number. It divides the bits into chunks, which
// store.Chunk describes.
type bitmaps map[chunkKey]*bits

type chunkKey struct {
	run   string
	index int64
}

type bits [store.ChunkBits / 8]byte

// set sets the bit of a sequence number. It reports whether the bit was already set.
func (b bitmaps) set(run string, seq int64) bool {
	key := chunkKey{run: run, index: seq / store.ChunkBits}
	chunk := b[key]
	if chunk == nil {
		chunk = new(bits)
		key.run = strings.Clone(run) // run may be a substring of a message, which the map would keep in memory
		b[key] = chunk
	}
	at, mask := position(seq)
	before := chunk[at]&mask != 0
	chunk[at] |= mask
	return before
}

// get reports whether the bit of a sequence number is set. The sequence number belongs to the given generator run.
func (b bitmaps) get(run string, seq int64) bool {
	chunk := b[chunkKey{run: run, index: seq / store.ChunkBits}]
	if chunk == nil {
		return false
	}
	at, mask := position(seq)
	return chunk[at]&mask != 0
}

// position returns where the bit of a sequence number is in its chunk: the index of the byte, and the mask of the
// bit.
func position(seq int64) (at int64, mask byte) {
	bit := seq % store.ChunkBits
	return bit / 8, 0x80 >> (bit % 8)
}

// chunk returns a copy of a chunk without its trailing zero bytes.
func (b bitmaps) chunk(run string, index int64) []byte {
	chunk := b[chunkKey{run: run, index: index}]
	if chunk == nil {
		return nil
	}
	end := len(chunk)
	for end > 0 && chunk[end-1] == 0 {
		end--
	}
	return slices.Clone(chunk[:end])
}
