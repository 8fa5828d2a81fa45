package memory

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// maxTail limits the steps of a partition that are not durable yet. At the limit, all of them become durable at once.
const maxTail = 1 << 14

// partition contains one partition of the store. A crash keeps a random number of the earliest steps in the field tail,
// and loses the later steps.
type partition struct {
	mu      sync.Mutex
	state   *state
	durable *state         // what survives every crash; nil if the store cannot crash
	tail    []func(*state) // the steps that are not durable yet, earliest first
}

func newPartition(visitMargin time.Duration, crashable bool) *partition {
	p := &partition{state: newState(visitMargin)}
	if crashable {
		p.durable = newState(visitMargin)
	}
	return p
}

// do runs the function step and returns its result. The function must use and change nothing but the given state,
// because the function may run again later on the durable state.
func do[R any](p *partition, step func(*state) R) R {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.durable != nil {
		if len(p.tail) == maxTail {
			p.flush()
		}
		p.tail = append(p.tail, func(s *state) { _ = step(s) })
	}
	return step(p.state)
}

func (p *partition) change(step func(*state)) {
	do(p, func(s *state) struct{} {
		step(s)
		return struct{}{}
	})
}

// read calls the given function with the state, and returns the result of the function. The function must not change
// the state.
func read[R any](p *partition, part func(*state) R) R {
	p.mu.Lock()
	defer p.mu.Unlock()
	return part(p.state)
}

// flush makes all steps durable, as if a server had written them to disk.
func (p *partition) flush() { p.keep(len(p.tail)) }

// keep makes the first n steps in p.tail durable, and discards the other steps.
func (p *partition) keep(n int) {
	for _, step := range p.tail[:n] {
		step(p.durable)
	}
	clear(p.tail)
	p.tail = p.tail[:0]
}

// crash undoes the latest steps that are not durable. The parameter draw, a random number, determines how many steps:
// any number from none to all.
func (p *partition) crash(draw uint64) {
	if p.durable == nil {
		return
	}
	p.keep(int(draw % uint64(len(p.tail)+1)))
	p.state, p.durable = p.durable, p.durable.clone()
}

// numberOf derives a pseudo-random number from another random number and an index.
func numberOf(draw uint64, i int) uint64 { return rand.NewPCG(draw, uint64(i)).Uint64() }

// clone returns a copy of the state. The copy shares only data that never changes.
func (s *state) clone() *state {
	c := *s
	c.seen, c.matched = s.seen.clone(), s.matched.clone()
	c.externalIDs, c.deadLetters = s.externalIDs.clone(), s.deadLetters.clone()
	c.visits, c.pool = s.visits.clone(), s.pool.clone()
	c.outbox, c.starved, c.counters = maps.Clone(s.outbox), maps.Clone(s.starved), maps.Clone(s.counters)
	c.runs, c.claims = maps.Clone(s.runs), maps.Clone(s.claims)
	for name, r := range s.runs {
		copied := *r
		c.runs[name] = &copied
	}
	for name, of := range s.claims {
		c.claims[name] = of.clone()
	}
	return &c
}

func (b bitmaps) clone() bitmaps {
	c := maps.Clone(b)
	for key, chunk := range b {
		copied := *chunk
		c[key] = &copied
	}
	return c
}

func (e *expiring) clone() *expiring {
	return &expiring{stay: e.stay, expires: maps.Clone(e.expires), order: e.order.Clone()}
}

func (v *visits) clone() *visits {
	return &visits{unclaimed: maps.Clone(v.unclaimed), expiry: v.expiry.Clone(), claimed: maps.Clone(v.claimed), nextSweep: v.nextSweep}
}

func (p *pool) clone() *pool {
	return &pool{entered: maps.Clone(p.entered), heap: slices.Clone(p.heap)}
}

func (c *claims) clone() *claims {
	return &claims{byToken: maps.Clone(c.byToken), tokens: c.tokens.Clone()}
}
