package memory

import "time"

// visit is a parked car, in little memory and without a pointer, as there may be millions of them.
type visit struct {
	// enteredSec and enteredNano are the instant of the entry: Unix seconds, and nanoseconds beyond.
	enteredSec  int64
	enteredNano int32
	// parked is false while the visit has been claimed but its entry has not been processed: no car is
	// there yet.
	parked bool
	// expires is when the visit ends by itself, in Unix nanoseconds.
	expires int64
}

func newVisit(entered time.Time, expires int64) visit {
	return visit{
		enteredSec: entered.Unix(), enteredNano: int32(entered.Nanosecond()), parked: true, expires: expires,
	}
}

func (v visit) entered() time.Time { return time.Unix(v.enteredSec, int64(v.enteredNano)).UTC() }

// sweepInterval is how often expired claimed visits are looked for, in nanoseconds.
const sweepInterval = int64(time.Minute)

// visits are the parked cars by plate. Those that nobody claimed expire in about the order in which they
// came, which a queue remembers. Claimed ones are few, since their exits are on the way, and stay so much
// longer that they have a place of their own, which is swept now and then.
type visits struct {
	unclaimed map[string]visit
	expiry    queue[expiry]
	claimed   map[string]visit
	nextSweep int64
}

func newVisits() *visits {
	return &visits{unclaimed: map[string]visit{}, claimed: map[string]visit{}}
}

// get returns the car that is parked, if there is one.
func (v *visits) get(plate string, now int64) (visit, bool) {
	found, ok := v.claimed[plate]
	if !ok {
		found, ok = v.unclaimed[plate]
	}
	return found, ok && found.parked && found.expires > now
}

// enter parks a car. One that was claimed ahead of its entry, or is there already, keeps the later expiry.
func (v *visits) enter(plate string, entered time.Time, expires, now int64) {
	v.expire(now)
	if found, ok := v.claimed[plate]; ok {
		v.claimed[plate] = newVisit(entered, max(expires, found.expires))
		return
	}
	if found, ok := v.unclaimed[plate]; ok {
		expires = max(expires, found.expires)
	}
	v.keep(plate, newVisit(entered, expires))
}

// keep puts an unclaimed visit in its place.
func (v *visits) keep(plate string, set visit) {
	v.unclaimed[plate] = set
	v.expiry.push(expiry{name: plate, at: set.expires})
}

// claim keeps a visit until its new expiry, also when its car is still to come.
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

// release undoes a claim.
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
	v.keep(plate, found)
}

// end removes a visit.
func (v *visits) end(plate string) {
	delete(v.claimed, plate)
	delete(v.unclaimed, plate)
}

// expire frees what has expired. An item of the queue whose visit has ended, was claimed, or stays longer
// now means nothing.
func (v *visits) expire(now int64) {
	for v.expiry.len() > 0 && v.expiry.front().at <= now {
		plate := v.expiry.pop().name
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
