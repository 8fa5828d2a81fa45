package redis

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// step is a Lua script, bound to one partition. An execution serves many calls, but only of one partition, because a
// cluster needs all keys on one node.
type step struct {
	partition *partition
	// order is different for each step. The calls in a pipeline are sorted by order, so that the calls of the same step
	// are adjacent.
	order int
	// part identifies the step in the outage log, such as "entry 0" for the entries of partition 0.
	part string
	// hash and source identify the script. The batcher sends the source only if the server does not know the hash.
	hash, source string
	// keys is the number of Redis keys of one call. It excludes the key of the ledger, which all calls of a command
	// share.
	keys int
	// calls is a pool of unused calls.
	calls sync.Pool
}

// maxFields is the maximum number of keys and arguments of one call. The key of the ledger does not count.
const maxFields = 10

// maxPooledText is the size in bytes up to which the buffer of a call is reused.
const maxPooledText = 4096

func newStep(p *partition, kind string, order int, source string, keys int) *step {
	s := &step{partition: p, order: order, part: p.part(kind), hash: goredis.NewScript(source).Hash(), source: source, keys: keys}
	s.calls.New = func() any { return &call{step: s, answered: make(chan struct{}, 1)} }
	return s
}

// appendCommand appends the command EVALSHA hash numkeys ledger [key ...] [argument ...], which executes the calls.
// If bySource is true, EVAL sends the source of the script instead.
func (s *step) appendCommand(line []any, calls []*call, bySource bool) []any {
	if bySource {
		line = append(line, "eval", s.source)
	} else {
		line = append(line, "evalsha", s.hash)
	}
	line = append(line, 1+len(calls)*s.keys, s.partition.key(keyLedger))
	for _, c := range calls {
		for i := range s.keys {
			line = append(line, &c.fields[i])
		}
	}
	for _, c := range calls {
		for i := s.keys; i < c.next; i++ {
			line = append(line, &c.fields[i])
		}
	}
	return line
}

// call is the request of one caller to execute a step, which is a Lua script.
type call struct {
	step *step
	// fields contains the keys and then the arguments of the call. Elements from index next on are unused. The bytes of
	// all keys and arguments are in text.
	fields [maxFields]field
	next   int
	text   []byte
	// reply is the reply of the script to this call. It is empty if the call failed.
	reply string
	err   error
	// state determines whether the caller or the sender puts the call back into the pool.
	state    atomic.Int32
	answered chan struct{}
}

// The states of a call.
const (
	stateWaiting   = iota // the caller waits for a reply
	stateAnswered         // the call has a reply or an error; the caller puts the call back into the pool
	stateAbandoned        // the caller has stopped waiting; the sender puts the call back into the pool
)

// field is a key or an argument of a call. A command contains pointers to fields, because converting a pointer into an
// interface value does not allocate.
type field []byte

// MarshalBinary implements encoding.BinaryMarshaler. The client library calls MarshalBinary to write a command.
func (f *field) MarshalBinary() ([]byte, error) { return *f, nil }

// begin returns an unused call of the step.
func (s *step) begin() *call {
	c := s.calls.Get().(*call) //nolint:forcetypeassert // the pool contains only calls
	c.next, c.text, c.reply, c.err = 0, c.text[:0], "", nil
	c.state.Store(stateWaiting)
	return c
}

// end puts the call back into the pool, unless the buffer of the call is larger than maxPooledText.
func (c *call) end() {
	if cap(c.text) <= maxPooledText {
		c.step.calls.Put(c)
	}
}

// fill adds c.text[start:] to c.fields, as the next element.
func (c *call) fill(start int) {
	// If a later append moves c.text to a larger buffer, this element keeps the old buffer, whose bytes no longer
	// change.
	c.fields[c.next] = c.text[start:len(c.text):len(c.text)]
	c.next++
}

func (c *call) key(kind, name string) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), name...)
	c.fill(start)
}

// bitmap appends the key of the bitmap of the given kind that contains the bit of a generated event.
func (c *call) bitmap(kind string, o store.Origin) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), o.Run...)
	c.text = strconv.AppendInt(append(c.text, ':'), o.Seq/store.ChunkBits, 10)
	c.fill(start)
}

// origin appends the key under which the store records whether the event has taken effect.
func (c *call) origin(o store.Origin) {
	if o.Generated() {
		c.bitmap(keySeen, o)
	} else {
		c.key(keyExternal, o.ID)
	}
}

// matched appends the key of the bitmap of "matched" exits. The script ignores the key of an external exit.
func (c *call) matched(o store.Origin) {
	if o.Generated() {
		c.bitmap(keyMatched, o)
	} else {
		c.key(keyMatched, "")
	}
}

// bit appends the offset of the event's bit in a bitmap, or "" for an external event, which has no bit.
func (c *call) bit(o store.Origin) {
	if o.Generated() {
		c.number(o.Seq % store.ChunkBits)
	} else {
		c.string("")
	}
}

func (c *call) string(s string) {
	start := len(c.text)
	c.text = append(c.text, s...)
	c.fill(start)
}

// flag appends a boolean argument to the call, as "1" or "0".
func (c *call) flag(set bool) {
	if set {
		c.string("1")
	} else {
		c.string("0")
	}
}

func (c *call) number(n int64) {
	start := len(c.text)
	c.text = strconv.AppendInt(c.text, n, 10)
	c.fill(start)
}

func (c *call) instant(t time.Time) {
	start := len(c.text)
	c.text = appendInstant(c.text, t)
	c.fill(start)
}
