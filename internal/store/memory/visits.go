package memory

import (
	"time"

	"github.com/parking-operator/parking-operator/internal/ring"
)

// visit is a parked vehicle. It is small and contains no pointer, because there may be millions of visits.
type visit struct {
	// enteredSec and enteredNano are the entry time in Unix time: whole seconds, and nanoseconds within the second.
	enteredSec  int64
	enteredNano int32
	// parked is false if the plate was claimed for an exit but its entry has not been processed yet.
	parked bool
	// expires is the time at which the visit expires, in Unix nanoseconds.
	expires int64
}

func newVisit(entered time.Time, expires int64) visit {
	return visit{
		enteredSec: entered.Unix(), enteredNano: int32(entered.Nanosecond()), parked: true, expires: expires,
	}
}

func (v visit) entered() time.Time { return time.Unix(v.enteredSec, int64(v.enteredNano)).UTC() }

// sweepInterval is the minimum time between two searches for claimed visits that have expired, in nanoseconds.
const sweepInterval = int64(time.Minute)

// visits contains the parked vehicles by plate. A visit is claimed if a generator has taken its plate for an exit.
type visits struct {
	unclaimed map[string]visit
	expiry    ring.Ring[expiry] // the unclaimed visits, in the order of their entries and so roughly of their expiry
	// claimed contains few visits, so an occasional search for expired visits is cheap.
	claimed   map[string]visit
	nextSweep int64
}

func newVisits() *visits {
	return &visits{unclaimed: map[string]visit{}, claimed: map[string]visit{}}
}

// get returns the visit of a plate. It returns false if the vehicle is not parked.
func (v *visits) get(plate string, now int64) (visit, bool) {
	found, ok := v.claimed[plate]
	if !ok {
		found, ok = v.unclaimed[plate]
	}
	return found, ok && found.parked && found.expires > now
}

// enter creates the visit of a plate. It replaces an existing visit, but keeps the later expiry time.
func (v *visits) enter(plate string, entered time.Time, expires, now int64) {
	v.expire(now)
	if found, ok := v.claimed[plate]; ok {
		v.claimed[plate] = newVisit(entered, max(expires, found.expires))
		return
	}
	if found, ok := v.unclaimed[plate]; ok {
		expires = max(expires, found.expires)
	}
	v.addUnclaimed(plate, newVisit(entered, expires))
}

func (v *visits) addUnclaimed(plate string, added visit) {
	v.unclaimed[plate] = added
	v.expiry.PushBack(expiry{name: plate, at: added.expires})
}

// claim marks the visit of a plate as claimed, and sets the time at which the visit expires. If the entry has not been
// processed yet, claim creates the visit.
func (v *visits) claim(plate string, expires, now int64) {
	v.expire(now)
	found, ok := v.claimed[plate]
	if !ok {
		found = v.unclaimed[plate]
		delete(v.unclaimed, plate)
	}
	if found.expires <= now {
		found = visit{}
	}
	found.expires = expires
	v.claimed[plate] = found
}

// release sets a new expiry time of a claimed visit. The visit also becomes unclaimed, unless the entry of its plate
// has not been processed yet.
func (v *visits) release(plate string, expires, now int64) {
	found, ok := v.claimed[plate]
	if !ok || found.expires <= now {
		return
	}
	found.expires = expires
	if !found.parked {
		v.claimed[plate] = found
		return
	}
	delete(v.claimed, plate)
	v.addUnclaimed(plate, found)
}

func (v *visits) end(plate string) {
	delete(v.claimed, plate)
	delete(v.unclaimed, plate)
}

// expire removes expired visits. It ignores items of v.expiry whose visit has ended, has been claimed, or now expires
// later.
func (v *visits) expire(now int64) {
	for v.expiry.Len() > 0 && v.expiry.Front().at <= now {
		plate := v.expiry.PopFront().name
		if found, ok := v.unclaimed[plate]; ok && found.expires <= now {
			delete(v.unclaimed, plate)
		}
	}
	if now < v.nextSweep {
		return
	}
	v.nextSweep = now + sweepInterval
	for plate, found := range v.claimed {
		if found.expires <= now {
			delete(v.claimed, plate)
		}
	}
}
