package memory

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// partition is the state of one partition; each of its methods is one atomic step.
type partition struct {
	visitMargin time.Duration

	mu          sync.Mutex
	seen        bitmaps
	matched     bitmaps
	strangers   *expiring
	deadLetters *expiring
	visits      *visits
	outbox      map[string]event.Summary
	counts      store.Counts
	pool        *pool
	runs        map[string]*store.Run
	claims      map[string]*claims
	// Of partition 0 only, for all partitions.
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
	p.strangers, p.deadLetters = newExpiring(store.StrangerTTL), newExpiring(store.DeadLetterTTL)
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

// take remembers that the event took effect, and reports whether it had before.
func (p *partition) take(o store.Origin, now int64) bool {
	if o.Generated() {
		return p.seen.set(o.Run, o.Seq)
	}
	return p.strangers.add(o.ID, now)
}

// taken reports whether the event took effect before.
func (p *partition) taken(o store.Origin, now int64) bool {
	if o.Generated() {
		return p.seen.get(o.Run, o.Seq)
	}
	return p.strangers.has(o.ID, now)
}

func (p *partition) recordEntry(e store.EntryStep, at time.Time) store.Result {
	now := at.UnixNano()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.take(e.Origin, now) && deduplicate {
		p.counts.DuplicatesSuppressed++
		return store.ResultDuplicate
	}
	p.visits.enter(e.Plate, e.At, now+int64(e.MaxStay+p.visitMargin), now)
	if e.Origin.Generated() {
		p.counts.EntriesRecorded++
	} else {
		p.counts.StrangerEntries++
	}
	return store.ResultRecorded
}

func (p *partition) recordExit(e store.ExitStep, at time.Time) store.ExitResult {
	now := at.UnixNano()
	kind := kindOf(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	parked, result := p.meet(e, kind, now)
	var before bool
	if final(result) {
		before = p.take(e.Origin, now)
	} else {
		before = p.taken(e.Origin, now)
	}
	if before && deduplicate {
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

// meet returns what would come of the exit if it had not taken effect before, and the visit that it ends.
func (p *partition) meet(e store.ExitStep, kind exitKind, now int64) (visit, store.Result) {
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
	case kind == strangerExit:
		return visit{}, store.ResultEntryNotFound
	default:
		return visit{}, store.ResultUnmatchedUnexpected
	}
}

// final reports whether an exit of this result takes effect.
func final(r store.Result) bool {
	return r != store.ResultEarly && r != store.ResultPrecedesEntry
}

// count counts an exit's result.
func (p *partition) count(r store.Result, kind exitKind) {
	switch r {
	case store.ResultMatched:
		if kind == strangerExit {
			p.counts.StrangerMatched++
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
	if _, found := p.outbox[exitID]; found {
		delete(p.outbox, exitID)
		p.counts.SummariesStored++
	}
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

// claim takes plates out of the pool, or repeats what the claim of the same token took.
func (p *partition) claim(c store.Claim, at time.Time) []store.Plate {
	p.mu.Lock()
	defer p.mu.Unlock()
	claims := p.claims[c.Run]
	if claims == nil {
		claims = newClaims()
		p.claims[c.Run] = claims
	}
	taken, repeated := claims.byToken[c.Token]
	if !repeated {
		taken = p.takePlates(c, at.UnixNano())
		claims.remember(c.Token, taken)
	}
	plates := make([]store.Plate, len(taken))
	for i, a := range taken {
		plates[i] = store.Plate{Plate: a.plate, EntryAt: time.UnixMilli(a.at).UTC()}
	}
	return plates
}

func (p *partition) takePlates(c store.Claim, now int64) []available {
	p.pool.evict(c.Now.Add(-c.MaxStay).UnixMilli())
	newest := c.Now.Add(-c.MinStay).UnixMilli()
	expires := now + int64(c.MaxStay+store.ClaimedStay)
	var taken []available
	for range min(c.Limit, store.MaxClaim) {
		a, found := p.pool.take(newest)
		if !found {
			break
		}
		p.visits.claim(a.plate, expires, now)
		taken = append(taken, a)
	}
	return taken
}

// release puts plates of a claim back into the pool, once.
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
	total.StrangerEntries += p.counts.StrangerEntries
	total.StrangerMatched += p.counts.StrangerMatched
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
