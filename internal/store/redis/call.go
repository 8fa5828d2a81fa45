package redis

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// step is a frequent script in one partition, with a pool of calls. A step belongs to one partition because one
// execution of the script serves many calls, and all their keys must be on one node of a cluster.
type step struct {
	partition *partition
	// order is the number of the step within its store. Calls are sorted by it.
	order int
	// part names the step in the outage log: the kind of step and its partition.
	part string
	// hash and source identify the script. The source is sent if the server does not know the hash.
	hash, source string
	// keys is the number of keys of a call, without that of the ledger. The other fields of a call are arguments.
	keys  int
	calls sync.Pool
}

// maxFields is the largest number of keys and arguments of a call, without the ledger.
const maxFields = 10

// maxPooledText is the largest capacity, in bytes, of the text of a pooled call.
const maxPooledText = 4096

// newStep returns the step of a script that uses a number of keys per call.
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

// call is one execution of a step for one caller.
type call struct {
	step *step
	// fields are the keys and arguments, and next is the number of the next one to fill. text holds their bytes.
	fields [maxFields]field
	next   int
	text   []byte
	// reply is the reply of the script, which is never "". It is not set if err is.
	reply string
	err   error
	// state says who returns the call to its pool. answered wakes the caller.
	state    atomic.Int32
	answered chan struct{}
}

// The states of a call.
const (
	stateWaiting   = iota // the caller waits, and returns it to the pool
	stateAnswered         // there is a reply; the caller returns it to the pool
	stateAbandoned        // the caller has left; the sender returns it to the pool
)

// field is a key or an argument. A command line can refer to it without an allocation.
type field []byte

// MarshalBinary returns the bytes unchanged.
func (f *field) MarshalBinary() ([]byte, error) { return *f, nil }

// begin gets a call from the pool of the step.
func (s *step) begin() *call {
	c := s.calls.Get().(*call) //nolint:forcetypeassert // the pool contains only calls
	c.next, c.text, c.reply, c.err = 0, c.text[:0], "", nil
	c.state.Store(stateWaiting)
	return c
}

// end returns the call to its pool, unless the long ID of an external event made it large.
func (c *call) end() {
	if cap(c.text) <= maxPooledText {
		c.step.calls.Put(c)
	}
}

// fill sets the next field to the text from start on.
func (c *call) fill(start int) {
	// If text grows and moves later, the field still refers to the old bytes.
	c.fields[c.next] = c.text[start:len(c.text):len(c.text)]
	c.next++
}

func (c *call) key(kind, name string) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), name...)
	c.fill(start)
}

// bitmap adds the key of the bitmap with the bit of a generated event.
func (c *call) bitmap(kind string, o store.Origin) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), o.Run...)
	c.text = strconv.AppendInt(append(c.text, ':'), o.Seq/store.ChunkBits, 10)
	c.fill(start)
}

// origin adds the key that records whether the event has taken effect.
func (c *call) origin(o store.Origin) {
	if o.Generated() {
		c.bitmap(keySeen, o)
	} else {
		c.key(keyExternal, o.ID)
	}
}

// matched adds the key of the bitmap of matched intents. An external exit has no bit there, but the script
// requires a key.
func (c *call) matched(o store.Origin) {
	if o.Generated() {
		c.bitmap(keyMatched, o)
	} else {
		c.key(keyMatched, "")
	}
}

// bit adds the position of the event in its bitmap, or "" for an external event.
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

// flag adds "1" or "0".
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
