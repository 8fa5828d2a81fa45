package redis

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// step is a hot script in one partition. Its calls are pooled: each owns the memory of its arguments and
// its command, so that a call allocates little more than the text of its reply. The pool is of one
// partition because a command remembers to which node of a cluster its keys belong.
type step struct {
	partition *partition
	// The boxed arguments that say which script to run: by its hash, or by its source where the server
	// does not know the hash.
	evalSHA, hash, eval, source any
	calls                       sync.Pool
	newCall                     func() *call
}

// maxFields is the largest number of keys and arguments of a step, without the ledger.
const maxFields = 10

// maxPooledText is the largest memory, in bytes, that a pooled call keeps.
const maxPooledText = 4096

// The positions of a call's command line: EVALSHA hash numkeys ledger field…
const (
	argCommand = iota
	argScript
	argKeyCount
	argLedger
	argFields
)

// newStep describes a script with a number of keys, the ledger first among them, and of arguments.
func newStep(p *partition, source string, keys, args int) *step {
	s := &step{
		partition: p, evalSHA: "evalsha", hash: goredis.NewScript(source).Hash(), eval: "eval", source: source,
	}
	s.newCall = func() *call {
		fields := keys - 1 + args
		c := &call{step: s, answered: make(chan struct{}, 1), line: make([]any, argFields+fields)}
		c.line[argKeyCount], c.line[argLedger] = keys, p.key(keyLedger)
		for i := range fields {
			c.line[argFields+i] = &c.fields[i]
		}
		c.cmd = goredis.NewStringCmd(context.Background(), c.line...)
		return c
	}
	return s
}

// call is one execution of a step.
type call struct {
	step *step
	// line is the command line, which cmd sends.
	line []any
	cmd  *goredis.StringCmd
	// fields are what line points to behind the ledger, next the one to be filled next; text is their memory.
	fields [maxFields]field
	next   int
	text   []byte
	// err is why there is no answer.
	err error
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
	c, found := s.calls.Get().(*call)
	if !found {
		c = s.newCall()
	}
	c.line[argCommand], c.line[argScript] = s.evalSHA, s.hash
	c.next, c.text, c.err = 0, c.text[:0], nil
	c.state.Store(stateWaiting)
	return c
}

// end puts the call back, unless a stranger's long names made it large.
func (c *call) end() {
	if cap(c.text) <= maxPooledText {
		c.step.calls.Put(c)
	}
}

// bySource makes the call carry its script instead of its hash.
func (c *call) bySource() { c.line[argCommand], c.line[argScript] = c.step.eval, c.step.source }

// reset makes the command fit to be sent. The scripts never answer "", so that is what remains when no
// answer came.
func (c *call) reset() {
	c.cmd.SetErr(nil)
	c.cmd.SetVal("")
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
		c.key(keyStranger, o.ID)
	}
}

// matched adds the key of the bitmap of matched intents. A stranger's exit has no bit there, but the
// script wants a key.
func (c *call) matched(o store.Origin) {
	if o.Generated() {
		c.bitmap(keyMatched, o)
	} else {
		c.key(keyMatched, "")
	}
}

// bit adds the event's bit in its bitmap, "" for a stranger's.
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
