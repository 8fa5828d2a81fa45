package redis

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// step is a hot script in one partition, with calls that wait to be used again. They are of one partition because
// one execution of a script serves many calls, and must find their keys on one node of a cluster.
type step struct {
	partition *partition
	// order tells the steps of a store apart.
	order int
	// part names the step in the outage log: the kind of step and its partition.
	part string
	// hash and source identify the script. The source is sent if the server does not know the hash.
	hash, source string
	// keys are the number of keys of a call without the ledger; the other fields are arguments.
	keys  int
	calls sync.Pool
}

// maxFields is the largest number of keys and arguments of a call, without the ledger.
const maxFields = 10

// maxPooledText is the largest memory, in bytes, that a pooled call keeps.
const maxPooledText = 4096

// newStep describes a script with a number of keys for each call.
func newStep(p *partition, kind string, order int, source string, keys int) *step {
	s := &step{partition: p, order: order, part: p.part(kind), hash: goredis.NewScript(source).Hash(), source: source, keys: keys}
	s.calls.New = func() any { return &call{step: s, answered: make(chan struct{}, 1)} }
	return s
}

// appendCommand appends the command line that takes the calls, which are of this step:
// EVALSHA hash numkeys ledger key… argument…, or EVAL with the source in place of the hash.
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

// call is what one caller asks of a step.
type call struct {
	step *step
	// fields are the keys and arguments, next the one to be filled next; text is their memory.
	fields [maxFields]field
	next   int
	text   []byte
	// reply is the script's reply and never "". If err is set, there was no reply.
	reply string
	err   error
	// state says who puts the call back into its pool, and answered wakes the caller that waits.
	state    atomic.Int32
	answered chan struct{}
}

// The states of a call.
const (
	stateWaiting   = iota // the caller waits, and puts it back
	stateAnswered         // likewise, without waiting
	stateAbandoned        // the caller has left; the pipeline puts it back
)

// field is a key or an argument: bytes that a command line can point to without an allocation.
type field []byte

// MarshalBinary makes the client send the bytes as they are.
func (f *field) MarshalBinary() ([]byte, error) { return *f, nil }

// begin takes a call of the step out of its pool.
func (s *step) begin() *call {
	c := s.calls.Get().(*call) //nolint:forcetypeassert // nothing else is ever put there
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

// fill makes the text from start on the next field.
func (c *call) fill(start int) {
	// Should text move to larger memory later, the field keeps the old one.
	c.fields[c.next] = c.text[start:len(c.text):len(c.text)]
	c.next++
}

func (c *call) key(kind, name string) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), name...)
	c.fill(start)
}

// bitmap adds the key of the bitmap in which a generated event has its bit.
func (c *call) bitmap(kind string, o store.Origin) {
	start := len(c.text)
	c.text = append(append(append(c.text, c.step.partition.prefix...), kind...), o.Run...)
	c.text = strconv.AppendInt(append(c.text, ':'), o.Seq/store.ChunkBits, 10)
	c.fill(start)
}

// origin adds the key that remembers the event.
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
