package generator

import (
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// maxOutstanding bounds the events of a partition beyond the durable watermark, with a margin below what
// an audit looks at.
const maxOutstanding = store.MaxOutstanding - 1024

// record is what is kept of a published event until the store durably knows that it was confirmed.
type record struct {
	plate string
	// at is the event's instant in Unix nanoseconds.
	at int64
	// sent is when the event was published, on the generator's monotonic clock.
	sent      time.Duration
	intent    event.Intent
	confirmed bool
}

// tracker numbers the events of one partition and keeps account of their confirms, which come in any
// order. It divides the sequence numbers at three watermarks:
//
//	[0, durable)     the store durably knows that they are confirmed; they are forgotten
//	[durable, ready) confirmed by the broker without a gap; the store has to be told
//	[ready, next)    published, at least one unconfirmed
//
// One goroutine adds, one reads and forgets, any may confirm.
type tracker struct {
	// moved is signalled when ready has moved, room when durable has.
	moved, room chan struct{}

	mu                   sync.Mutex
	durable, ready, next int64
	// ring holds record seq at index seq modulo its length, a power of two.
	ring []record
}

func newTracker() *tracker {
	return &tracker{
		moved: make(chan struct{}, 1),
		room:  make(chan struct{}, 1),
		ring:  make([]record, 64),
	}
}

func (t *tracker) slot(seq int64) *record { return &t.ring[seq&int64(len(t.ring)-1)] }

// full reports whether no event can be added until the durable watermark moves.
func (t *tracker) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next-t.durable >= maxOutstanding
}

// add numbers an event. The tracker must not be full.
func (t *tracker) add(r record) (seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next-t.durable == int64(len(t.ring)) {
		t.grow()
	}
	seq = t.next
	*t.slot(seq) = r
	t.next++
	return seq
}

func (t *tracker) grow() {
	old := t.ring
	t.ring = make([]record, 2*len(old))
	for seq := t.durable; seq < t.next; seq++ {
		*t.slot(seq) = old[seq&int64(len(old)-1)]
	}
}

// retract takes the number of the event added last back: it was not published, and never will be confirmed.
func (t *tracker) retract() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next--
}

// confirm notes that the broker confirmed the event and returns its record. It reports false when that was
// known before.
func (t *tracker) confirm(seq int64) (record, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if seq < t.ready || seq >= t.next || t.slot(seq).confirmed {
		return record{}, false
	}
	confirmed := t.slot(seq)
	confirmed.confirmed = true
	if seq == t.ready {
		for t.ready < t.next && t.slot(t.ready).confirmed {
			t.ready++
		}
		signal(t.moved)
	}
	return *confirmed, true
}

// marks returns the watermarks.
func (t *tracker) marks() (durable, ready, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.durable, t.ready, t.next
}

// confirmed appends the events in [from, to) to events. They must be between durable and ready.
func (t *tracker) confirmed(events []store.Published, from, to int64) []store.Published {
	t.mu.Lock()
	defer t.mu.Unlock()
	for seq := from; seq < to; seq++ {
		r := t.slot(seq)
		events = append(events, store.Published{Plate: r.plate, At: time.Unix(0, r.at).UTC(), Intent: r.intent})
	}
	return events
}

// forget moves the durable watermark.
func (t *tracker) forget(durable int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; t.durable < durable; t.durable++ {
		*t.slot(t.durable) = record{}
	}
	signal(t.room)
}

// signal wakes the receiver of c, now or when it next looks.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
