package memory

import (
	"time"

	"github.com/parking-operator/parking-operator/internal/ring"
)

// expiring is a set of names. A name expires when the duration stay has passed since the name was added.
type expiring struct {
	stay    time.Duration
	expires map[string]int64 // when each name expires, in Unix nanoseconds
	order   ring.Ring[expiry]
}

// expiry is a name with the time at which it expires, in Unix nanoseconds.
type expiry struct {
	name string
	at   int64
}

func newExpiring(stay time.Duration) *expiring {
	return &expiring{stay: stay, expires: map[string]int64{}}
}

// has reports whether the name is in the set.
func (e *expiring) has(name string, now int64) bool {
	e.evict(now)
	_, found := e.expires[name]
	return found
}

// add adds a name, and reports whether the set already contained the name.
func (e *expiring) add(name string, now int64) bool {
	if e.has(name, now) {
		return true
	}
	at := now + int64(e.stay)
	e.expires[name] = at
	e.order.PushBack(expiry{name: name, at: at})
	return false
}

// evict removes the names that have expired.
func (e *expiring) evict(now int64) {
	for e.order.Len() > 0 && e.order.Front().at <= now {
		delete(e.expires, e.order.PopFront().name)
	}
}
