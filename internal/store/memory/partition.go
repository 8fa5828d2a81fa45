package memory

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// partition is the state of one partition. Each of its methods is one atomic step.
type partition struct {
	visitMargin time.Duration

	mu          sync.Mutex
	seen        bitmaps
	matched     bitmaps
	externalIDs *expiring
	deadLetters *expiring
	visits      *visits
	outbox      map[string]event.Summary
	counts      store.Counts
	pool        *pool
	runs        map[string]*store.Run
	claims      map[string]*claims
	// starved and counters are used in partition 0 only, for all partitions.
	starved  map[string]int64
	counters map[store.Counter]int64
}

func newPartition(visitMargin time.Duration) *partition {
	p := &partition{visitMargin: visitMargin}
	p.reset()
	return p
}

func (p *partition) reset() {
	p.seen, p.matched = bitmaps{}, bitmaps{}
	p.externalIDs, p.deadLetters = newExpiring(store.ExternalIDTTL), newExpiring(store.DeadLetterTTL)
	p.visits, p.pool = newVisits(), newPool()
	p.outbox = map[string]event.Summary{}
	p.counts = store.Counts{}
	p.runs, p.claims = map[string]*store.Run{}, map[string]*claims{}
	p.starved, p.counters = map[string]int64{}, map[store.Counter]int64{}
}

func (p *partition) purge() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
}

// remember records that the event took effect, and reports whether it had taken effect before.
func (p *partition) remember(o store.Origin, now int64) bool {
	if o.Generated() {
		return p.seen.set(o.Run, o.Seq)
	}
	return p.externalIDs.add(o.ID, now)
}

// knows reports whether the event has taken effect.
func (p *partition) knows(o store.Origin, now int64) bool {
	if o.Generated() {
		return p.seen.get(o.Run, o.Seq)
	}
	return p.externalIDs.has(o.ID, now)
}

func (p *partition) recordEntry(e store.EntryStep, at time.Time) store.Result {
	now := at.UnixNano()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.remember(e.Origin, now) && deduplicate {
		p.counts.DuplicatesSuppressed++
		return store.ResultDuplicate
	}
	p.visits.enter(e.Plate, e.At, now+int64(e.MaxStay+p.visitMargin), now)
	if e.Origin.Generated() {
		p.counts.EntriesRecorded++
	} else {
		p.counts.ExternalEntries++
	}
	return store.ResultRecorded
}

func (p *partition) recordExit(e store.ExitStep, at time.Time) store.ExitResult {
	now := at.UnixNano()
	kind := kindOf(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	parked, result := p.match(e, kind, now)
	var known bool
	if final(result) {
		known = p.remember(e.Origin, now)
	} else {
		known = p.knows(e.Origin, now)
	}
	if known && deduplicate {
		if summary, found := p.outbox[e.Origin.ID]; found {
			return store.ExitResult{Result: store.ResultPending, Summary: summary}
		}
		p.counts.DuplicatesSuppressed++
		return store.ExitResult{Result: store.ResultDuplicate}
	}
	if final(result) && kind == matchedExit {
		p.matched.set(e.Origin.Run, e.Origin.Seq)
	}
	p.count(result, kind)
	if result != store.ResultMatched {
		return store.ExitResult{Result: result}
	}
	p.visits.end(e.Plate)
	summary := event.Summary{ID: e.Origin.ID, Plate: e.Plate, EntryAt: parked.entered(), ExitAt: e.At.UTC()}
	p.outbox[e.Origin.ID] = summary
	return store.ExitResult{Result: result, Summary: summary}
}

// match returns the result of an exit that has not taken effect before, and the visit that it ends. It changes
// nothing.
func (p *partition) match(e store.ExitStep, kind exitKind, now int64) (visit, store.Result) {
	if kind == unmatchedExit {
		return visit{}, store.ResultUnmatchedExpected
	}
	parked, found := p.visits.get(e.Plate, now)
	switch {
	case found && parked.entered().After(e.At):
		return visit{}, store.ResultPrecedesEntry
	case found:
		return parked, store.ResultMatched
	case !e.LastAttempt:
		return visit{}, store.ResultEarly
	case kind == externalExit:
		return visit{}, store.ResultEntryNotFound
	default:
		return visit{}, store.ResultUnmatchedUnexpected
	}
}

// final reports whether an exit with this result takes effect.
func final(r store.Result) bool {
	return r != store.ResultEarly && r != store.ResultPrecedesEntry
}

// count adds 1 to the counter of an exit's result.
func (p *partition) count(r store.Result, kind exitKind) {
	switch r {
	case store.ResultMatched:
		if kind == externalExit {
			p.counts.ExternalMatched++
		} else {
			p.counts.Matched++
		}
	case store.ResultUnmatchedExpected:
		p.counts.UnmatchedExpected++
	case store.ResultUnmatchedUnexpected:
		p.counts.UnmatchedUnexpected++
	case store.ResultEntryNotFound:
		p.counts.EntryNotFound++
	}
}

func (p *partition) settleSummary(exitID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, found := p.outbox[exitID]; !found {
		p.counts.DuplicatesSuppressed++ // another delivery of the same exit has settled it
		return
	}
	delete(p.outbox, exitID)
	p.counts.SummariesStored++
}

func (p *partition) recordDeadLetter(key string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.deadLetters.add(key, at.UnixNano()) {
		p.counts.DeadLettered++
	}
}

func (p *partition) lease(counter store.Counter, n int) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := p.counters[counter]
	p.counters[counter] = first + int64(n)
	return first
}

func (p *partition) countStarved(run string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starved[run] = max(p.starved[run], total)
}

func (p *partition) confirm(c store.Confirmation) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, found := p.runs[c.Run]
	var watermark int64
	if found {
		watermark = r.Confirmed
	}
	if watermark < c.From {
		return watermark
	}
	if !found {
		r = &store.Run{Run: c.Run, Type: c.Type, Partition: c.Partition}
		p.runs[c.Run] = r
	}
	known := watermark - c.From
	if known >= int64(len(c.Events)) {
		return watermark
	}
	for _, e := range c.Events[known:] {
		p.confirmOne(r, c.Type, e)
	}
	if c.Type == event.TypeEntry {
		p.pool.evict(newest(c.Events).Add(-c.MaxStay).UnixMilli())
	}
	return r.Confirmed
}

func (p *partition) confirmOne(r *store.Run, t event.Type, e store.Published) {
	r.Confirmed++
	switch e.Intent {
	case event.IntentMatched:
		r.Matched++
	case event.IntentUnmatched:
		r.Unmatched++
	}
	if t == event.TypeEntry {
		p.pool.put(e.Plate, e.At.UnixMilli())
	}
}

func newest(events []store.Published) time.Time {
	at := events[0].At
	for _, e := range events[1:] {
		if e.At.After(at) {
			at = e.At
		}
	}
	return at
}

// claim removes plates from the pool. A claim with a known token returns the same plates as the first time.
func (p *partition) claim(c store.Claim, at time.Time) []store.Plate {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := p.claims[c.Run]
	if claims == nil {
		claims = newClaims()
		p.claims[c.Run] = claims
	}
	claimed, repeated := claims.byToken[c.Token]
	if !repeated {
		claimed = p.claimPlates(c, at.UnixNano())
		claims.remember(c.Token, claimed)
	}
	plates := make([]store.Plate, len(claimed))
	for i, a := range claimed {
		plates[i] = store.Plate{Plate: a.plate, EntryAt: time.UnixMilli(a.at).UTC()}
	}
	return plates
}

func (p *partition) claimPlates(c store.Claim, now int64) []available {
	p.pool.evict(c.Now.Add(-c.MaxStay).UnixMilli())
	newest := c.Now.Add(-c.MinStay).UnixMilli()
	expires := now + int64(c.MaxStay+store.ClaimedStay)
	var claimed []available
	for range min(c.Limit, store.MaxClaim) {
		a, found := p.pool.remove(newest)
		if !found {
			break
		}
		p.visits.claim(a.plate, expires, now)
		claimed = append(claimed, a)
	}
	return claimed
}

// release returns plates of a claim to the pool, once.
func (p *partition) release(c store.Claim, plates []store.Plate, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := p.claims[c.Run]
	if claims == nil {
		return
	}
	now := at.UnixNano()
	expires := now + int64(c.MaxStay+p.visitMargin)
	for _, a := range claims.release(c.Token) {
		if slices.ContainsFunc(plates, func(released store.Plate) bool { return released.Plate == a.plate }) {
			p.pool.put(a.plate, a.at)
			p.visits.release(a.plate, expires, now)
		}
	}
}

func (p *partition) addCounts(total *store.Counts) {
	p.mu.Lock()
	defer p.mu.Unlock()
	total.EntriesRecorded += p.counts.EntriesRecorded
	total.Matched += p.counts.Matched
	total.UnmatchedExpected += p.counts.UnmatchedExpected
	total.UnmatchedUnexpected += p.counts.UnmatchedUnexpected
	total.SummariesStored += p.counts.SummariesStored
	total.DuplicatesSuppressed += p.counts.DuplicatesSuppressed
	total.DeadLettered += p.counts.DeadLettered
	total.ExternalEntries += p.counts.ExternalEntries
	total.ExternalMatched += p.counts.ExternalMatched
	total.EntryNotFound += p.counts.EntryNotFound
	for _, n := range p.starved {
		total.Starved += n
	}
}

func (p *partition) registered() []store.Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	runs := make([]store.Run, 0, len(p.runs))
	for _, r := range p.runs {
		runs = append(runs, *r)
	}
	slices.SortFunc(runs, func(a, b store.Run) int { return cmp.Compare(a.Run, b.Run) })
	return runs
}

func (p *partition) chunk(run string, index int64) store.Chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	return store.Chunk{Seen: p.seen.chunk(run, index), Matched: p.matched.chunk(run, index)}
}
