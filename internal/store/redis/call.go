package redis

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// step is a frequently used Lua script, bound to one partition. One execution of the script serves many calls. All keys
// of an execution must be on one node of a Redis cluster, so calls of different partitions cannot share an execution.
type step struct {
	partition *partition
	// order is the sort key of the calls in a batch. Each step has its own order, so that its calls are adjacent.
	order int
	// part identifies the step in the outage log. It consists of the kind of the step and the partition.
	part string
	// hash and source identify the script. The source is sent only if the server does not know the hash.
	hash, source string
	// keys is the number of keys of one call. A call contains first its keys, and then its arguments. The key of the
	// ledger does not count: it is the same for all calls, so a command contains it only once.
	keys int
	// calls contains call structs for reuse, which saves allocations.
	calls sync.Pool
}

// maxFields is the maximum number of keys and arguments of one call, without the key of the ledger (see step.keys).
const maxFields = 10

// maxPooledText is the maximum size of the buffer, in bytes, that a call keeps when it returns to its pool.
const maxPooledText = 4096

// newStep returns a step whose script uses the given number of keys per call.
func newStep(p *partition, kind string, order int, source string, keys int) *step {
	s := &step{partition: p, order: order, part: p.part(kind), hash: goredis.NewScript(source).Hash(), source: source, keys: keys}
	s.calls.New = func() any { return &call{step: s, answered: make(chan struct{}, 1)} }
	return s
}

// appendCommand appends the command line that executes calls of this step: EVALSHA hash numkeys ledger key…
// argument…, or EVAL with the source instead of the hash.
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

// call is the request of one caller to execute a step.
type call struct {
	step *step
	// fields contains the keys and arguments. The integer next is the index of the first unused element of fields. text
	// is the buffer with the bytes of all fields.
	fields [maxFields]field
	next   int
	text   []byte
	// reply is the reply of the script. A script never replies with an empty text, so reply is empty only if err is
	// set.
	reply string
	err   error
	// state determines whether the caller or the sender returns the call to its pool. The sender wakes the caller through
	// the channel named answered.
	state    atomic.Int32
	answered chan struct{}
}

// The states of a call: it waits for a reply, the reply has arrived, or the caller no longer waits.
const (
	stateWaiting   = iota // the caller waits for a reply, and will return the call to the pool
	stateAnswered         // there is a reply; the caller returns the call to the pool
	stateAbandoned        // the caller no longer waits; the sender returns the call to the pool
)

// field is a key or an argument. Because it is part of a call, a command can refer to it without an allocation.
type field []byte

// MarshalBinary returns the bytes of the field. The client library calls it.
func (f *field) MarshalBinary() ([]byte, error) { return *f, nil }

// begin gets an unused call from the pool of the step.
func (s *step) begin() *call {
	c := s.calls.Get().(*call) //nolint:forcetypeassert // the pool contains only calls
	c.next, c.text, c.reply, c.err = 0, c.text[:0], "", nil
	c.state.Store(stateWaiting)
	return c
}

// end returns the call to its pool. It drops a call whose buffer has become large because of the long ID of an
// external event.
func (c *call) end() {
	if cap(c.text) <= maxPooledText {
		c.step.calls.Put(c)
	}
}

// fill makes the first unused element of c.fields refer to c.text[start:].
func (c *call) fill(start int) {
	// If c.text moves to a larger buffer later, this element of c.fields still refers to the old buffer, which no longer
	// changes.
	c.fields[c.next] = c.text[start:len(c.text):len(c.text)]
	c.next++
}

func (c *call) key(kind, name string) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), name...)
	c.fill(start)
}

// bitmap appends a key to the call: the key of the bitmap that contains the bit of a generated event.
func (c *call) bitmap(kind string, o store.Origin) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), o.Run...)
	c.text = strconv.AppendInt(append(c.text, ':'), o.Seq/store.ChunkBits, 10)
	c.fill(start)
}

// origin appends a key to the call: the key under which the store records whether the event has taken effect.
func (c *call) origin(o store.Origin) {
	if o.Generated() {
		c.bitmap(keySeen, o)
	} else {
		c.key(keyExternal, o.ID)
	}
}

// matched appends a key to the call: the key of the bitmap of exits with the intent "matched". If the exit comes from
// an external publisher, the script ignores this key, because such an exit has no intent.
func (c *call) matched(o store.Origin) {
	if o.Generated() {
		c.bitmap(keyMatched, o)
	} else {
		c.key(keyMatched, "")
	}
}

// bit appends an argument to the call: the offset of a generated event in its bitmaps, or "" for the event of an
// external publisher, which has no bitmaps.
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
