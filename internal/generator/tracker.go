package generator

import (
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// maxOutstanding limits the events per partition that are published but not durably recorded. An audit examines up to
// store.MaxOutstanding; the difference is a safety margin.
const maxOutstanding = store.MaxOutstanding - 1024

// record is what a generator remembers about a published event, until the store has durably recorded the event's
// confirmation.
type record struct {
	plate string
	// at is the time that the event contains, as Unix time in nanoseconds.
	at int64
	// sent is when the event was published, as the time since the start of the generator.
	sent      time.Duration
	intent    event.Intent
	confirmed bool
}

// tracker numbers the events of one partition and tracks their confirms. Only one goroutine may add events. Only one
// goroutine may read confirmed events and call advanceDurable. Any goroutine may call the method confirm.
type tracker struct {
	// tracker.moved receives a value when further confirms are ready to be recorded in the store. tracker.room receives a
	// value when further events may be added.
	moved, room chan struct{}

	mu sync.Mutex
	// The store has durably recorded the confirms of all events whose sequence numbers are below durable.
	durable int64
	// The broker has confirmed all events whose sequence numbers are below ready.
	ready int64
	// next is the sequence number of the next event.
	next int64
	// ring contains the records of the events from durable up to next, without next. The index of a record is its
	// sequence number modulo len(ring), which is a power of two.
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

// full reports whether the tracker accepts no events, because too many events are not durably recorded in the store
// yet.
func (t *tracker) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next-t.durable >= maxOutstanding
}

// add adds a new event and returns its sequence number. The tracker must not be full.
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

// retract removes the event that was added last. The event must not have been published.
func (t *tracker) retract() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next--
}

// confirm marks an event as confirmed by the broker, and returns the record of the event. It returns false if the event
// was already marked.
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
		async.Notify(t.moved)
	}
	return *confirmed, true
}

func (t *tracker) marks() (durable, ready, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.durable, t.ready, t.next
}

// confirmed appends the events with the sequence numbers in [from, to) to the slice events. All these events must be
// confirmed, and advanceDurable must not have dropped their records yet.
func (t *tracker) confirmed(events []store.Published, from, to int64) []store.Published {
	t.mu.Lock()
	defer t.mu.Unlock()
	for seq := from; seq < to; seq++ {
		r := t.slot(seq)
		events = append(events, store.Published{Plate: r.plate, At: time.Unix(0, r.at).UTC(), Intent: r.intent})
	}
	return events
}

// advanceDurable notes that the store has durably recorded all events below the given sequence number, and drops the
// records of these events.
func (t *tracker) advanceDurable(durable int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; t.durable < durable; t.durable++ {
		*t.slot(t.durable) = record{}
	}
	async.Notify(t.room)
}
