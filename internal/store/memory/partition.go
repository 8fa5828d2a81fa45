package memory

import (
	"cmp"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// state contains the data of one partition.
type state struct {
	visitMargin time.Duration

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
	// In partition 0, starved and counters contain the data of all partitions. In other partitions, they are unused.
	starved  map[string]int64
	counters map[store.Counter]int64
}

func newState(visitMargin time.Duration) *state {
	s := &state{visitMargin: visitMargin}
	s.reset()
	return s
}

func (s *state) reset() {
	s.seen, s.matched = bitmaps{}, bitmaps{}
	s.externalIDs, s.deadLetters = newExpiring(store.ExternalIDTTL), newExpiring(store.DeadLetterTTL)
	s.visits, s.pool = newVisits(), newPool()
	s.outbox = map[string]event.Summary{}
	s.counts = store.Counts{}
	s.runs, s.claims = map[string]*store.Run{}, map[string]*claims{}
	s.starved, s.counters = map[string]int64{}, map[store.Counter]int64{}
}

// remember records that an event has taken effect. It reports whether the event was already recorded.
func (s *state) remember(o store.Origin, now int64) bool {
	if o.Generated() {
		return s.seen.set(o.Run, o.Seq)
	}
	return s.externalIDs.add(o.ID, now)
}

// knows reports whether an event has already taken effect.
func (s *state) knows(o store.Origin, now int64) bool {
	if o.Generated() {
		return s.seen.get(o.Run, o.Seq)
	}
	return s.externalIDs.has(o.ID, now)
}

func (s *state) recordEntry(e store.EntryStep, at time.Time) store.Result {
	now := at.UnixNano()
	if s.remember(e.Origin, now) && deduplicate {
		s.counts.DuplicatesSuppressed++
		return store.ResultDuplicate
	}
	s.visits.enter(e.Plate, e.At, now+int64(e.MaxStay+s.visitMargin), now)
	if e.Origin.Generated() {
		s.counts.EntriesRecorded++
	} else {
		s.counts.ExternalEntries++
	}
	return store.ResultRecorded
}

func (s *state) recordExit(e store.ExitStep, at time.Time) store.ExitResult {
	now := at.UnixNano()
	kind := kindOf(e)
	parked, result := s.match(e, kind, now)
	var known bool
	if final(result) {
		known = s.remember(e.Origin, now)
	} else {
		known = s.knows(e.Origin, now)
	}
	if known && deduplicate {
		if summary, found := s.outbox[e.Origin.ID]; found {
			return store.ExitResult{Result: store.ResultPending, Summary: summary}
		}
		s.counts.DuplicatesSuppressed++
		return store.ExitResult{Result: store.ResultDuplicate}
	}
	if final(result) && kind == matchedExit {
		s.matched.set(e.Origin.Run, e.Origin.Seq)
	}
	s.count(result, kind)
	if result != store.ResultMatched {
		return store.ExitResult{Result: result}
	}
	s.visits.end(e.Plate)
	summary := event.Summary{ID: e.Origin.ID, Plate: e.Plate, EntryAt: parked.entered(), ExitAt: e.At.UTC()}
	s.outbox[e.Origin.ID] = summary
	return store.ExitResult{Result: result, Summary: summary}
}

// match returns the visit that an exit ends, but does not change the state. Call match only for an exit that has not
// taken effect.
func (s *state) match(e store.ExitStep, kind exitKind, now int64) (visit, store.Result) {
	if kind == unmatchedExit {
		return visit{}, store.ResultUnmatchedExpected
	}
	parked, found := s.visits.get(e.Plate, now)
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

// final reports whether a result means that the exit has taken effect.
func final(r store.Result) bool {
	return r != store.ResultEarly && r != store.ResultPrecedesEntry
}

// count increments the counter that belongs to the result and the kind of an exit.
func (s *state) count(r store.Result, kind exitKind) {
	switch r {
	case store.ResultMatched:
		if kind == externalExit {
			s.counts.ExternalMatched++
		} else {
			s.counts.Matched++
		}
	case store.ResultUnmatchedExpected:
		s.counts.UnmatchedExpected++
	case store.ResultUnmatchedUnexpected:
		s.counts.UnmatchedUnexpected++
	case store.ResultEntryNotFound:
		s.counts.EntryNotFound++
	}
}

func (s *state) settleSummary(exitID string) store.Result {
	if _, found := s.outbox[exitID]; !found {
		s.counts.DuplicatesSuppressed++ // another delivery of the same exit has already settled the summary
		return store.ResultDuplicate
	}
	delete(s.outbox, exitID)
	s.counts.SummariesStored++
	return store.ResultSettled
}

func (s *state) recordDeadLetter(key string, at time.Time) {
	if !s.deadLetters.add(key, at.UnixNano()) {
		s.counts.DeadLettered++
	}
}

func (s *state) lease(counter store.Counter, n int) int64 {
	first := s.counters[counter]
	s.counters[counter] = first + int64(n)
	return first
}

func (s *state) countStarved(run string, total int64) {
	s.starved[run] = max(s.starved[run], total)
}

func (s *state) confirm(c store.Confirmation) int64 {
	r, found := s.runs[c.Run]
	var watermark int64
	if found {
		watermark = r.Confirmed
	}
	if watermark < c.From {
		return watermark
	}
	if !found {
		r = &store.Run{Run: c.Run, Type: c.Type, Partition: c.Partition}
		s.runs[c.Run] = r
	}
	known := watermark - c.From
	if known >= int64(len(c.Events)) {
		return watermark
	}
	for _, e := range c.Events[known:] {
		s.confirmOne(r, c.Type, e)
	}
	if c.Type == event.TypeEntry {
		s.pool.evict(c.Newest().Add(-c.MaxStay).UnixMilli())
	}
	return r.Confirmed
}

func (s *state) confirmOne(r *store.Run, t event.Type, e store.Published) {
	r.Confirmed++
	switch e.Intent {
	case event.IntentMatched:
		r.Matched++
	case event.IntentUnmatched:
		r.Unmatched++
	}
	if t == event.TypeEntry {
		s.pool.put(e.Plate, e.At.UnixMilli())
	}
}

// claim removes plates from the pool and returns them. A repeated claim, recognized by its token, gets the plates of
// the first claim.
func (s *state) claim(c store.Claim, at time.Time) []store.Plate {
	claims := s.claims[c.Run]
	if claims == nil {
		claims = newClaims()
		s.claims[c.Run] = claims
	}
	claimed, repeated := claims.byToken[c.Token]
	if !repeated {
		claimed = s.claimPlates(c, at.UnixNano())
		claims.remember(c.Token, claimed)
	}
	plates := make([]store.Plate, len(claimed))
	for i, a := range claimed {
		plates[i] = store.Plate{Plate: a.plate, EntryAt: time.UnixMilli(a.at).UTC()}
	}
	return plates
}

func (s *state) claimPlates(c store.Claim, now int64) []available {
	s.pool.evict(c.Now.Add(-c.MaxStay).UnixMilli())
	newest := c.Now.Add(-c.MinStay).UnixMilli()
	expires := now + int64(c.MaxStay+store.ClaimedStay)
	var claimed []available
	for range min(c.Limit, store.MaxClaim) {
		a, found := s.pool.remove(newest)
		if !found {
			break
		}
		s.visits.claim(a.plate, expires, now)
		claimed = append(claimed, a)
	}
	return claimed
}

// release returns the unused plates of a claim to the pool. Only the first release of a claim has an effect.
func (s *state) release(c store.Claim, plates []store.Plate, at time.Time) {
	claims := s.claims[c.Run]
	if claims == nil {
		return
	}
	now := at.UnixNano()
	expires := now + int64(c.MaxStay+s.visitMargin)
	for _, a := range claims.release(c.Token) {
		if slices.ContainsFunc(plates, func(released store.Plate) bool { return released.Plate == a.plate }) {
			s.pool.put(a.plate, a.at)
			s.visits.release(a.plate, expires, now)
		}
	}
}

func (s *state) addCounts(total *store.Counts) {
	total.EntriesRecorded += s.counts.EntriesRecorded
	total.Matched += s.counts.Matched
	total.UnmatchedExpected += s.counts.UnmatchedExpected
	total.UnmatchedUnexpected += s.counts.UnmatchedUnexpected
	total.SummariesStored += s.counts.SummariesStored
	total.DuplicatesSuppressed += s.counts.DuplicatesSuppressed
	total.DeadLettered += s.counts.DeadLettered
	total.ExternalEntries += s.counts.ExternalEntries
	total.ExternalMatched += s.counts.ExternalMatched
	total.EntryNotFound += s.counts.EntryNotFound
	for _, n := range s.starved {
		total.Starved += n
	}
}

func (s *state) registered() []store.Run {
	runs := make([]store.Run, 0, len(s.runs))
	for _, r := range s.runs {
		runs = append(runs, *r)
	}
	slices.SortFunc(runs, func(a, b store.Run) int { return cmp.Compare(a.Run, b.Run) })
	return runs
}

func (s *state) chunk(run string, index int64) store.Chunk {
	return store.Chunk{Seen: s.seen.chunk(run, index), Matched: s.matched.chunk(run, index)}
}
