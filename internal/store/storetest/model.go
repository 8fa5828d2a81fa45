package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// testModel makes random sequences of calls, including redeliveries and concurrent duplicates. It compares every result
// with the result of a simple model.
func testModel(t *testing.T, factory Factory) {
	s := factory(t, 1)
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		if err := s.Purge(ctx); err != nil {
			rt.Fatal(err)
		}
		m := &machine{ctx: ctx, real: s, model: newModel()}
		rt.Repeat(map[string]func(*rapid.T){
			"entry":       m.entry,
			"exit":        m.exit,
			"settle":      m.settle,
			"dead letter": m.deadLetter,
			"lease":       m.lease,
			"confirm":     m.confirm,
			"claim":       m.claim,
			"release":     m.release,
			"starved":     m.starved,
			"burst":       m.burst,
			"":            m.check,
		})
	})
}

// machine performs random operations on the store under test and on the model. Both must return the same results.
type machine struct {
	ctx   context.Context
	real  store.Store
	model *model
}

func somePlates() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"A", "B", "C", "D", "E"})
}

func someTimes() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		return noon().Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "minutes")) * time.Minute)
	})
}

func someIntents() *rapid.Generator[event.Intent] {
	return rapid.SampledFrom([]event.Intent{event.IntentNone, event.IntentMatched, event.IntentUnmatched})
}

func someOrigins(run string) *rapid.Generator[store.Origin] {
	return rapid.Custom(func(t *rapid.T) store.Origin {
		n := rapid.Int64Range(0, 9).Draw(t, "event")
		if rapid.IntRange(0, 4).Draw(t, "external") == 0 {
			return external(fmt.Sprint(run, n))
		}
		return origin(run, n)
	})
}

func someEntries() *rapid.Generator[store.EntryStep] {
	return rapid.Custom(func(t *rapid.T) store.EntryStep {
		return store.EntryStep{
			Origin: someOrigins(entryRun).Draw(t, "origin"), Plate: somePlates().Draw(t, "plate"),
			At: someTimes().Draw(t, "at"), MaxStay: maxStay,
		}
	})
}

func someExits() *rapid.Generator[store.ExitStep] {
	return rapid.Custom(func(t *rapid.T) store.ExitStep {
		return store.ExitStep{
			Origin: someOrigins(exitRun).Draw(t, "origin"), Plate: somePlates().Draw(t, "plate"),
			At: someTimes().Draw(t, "at"), Intent: someIntents().Draw(t, "intent"),
			LastAttempt: rapid.Bool().Draw(t, "last attempt"),
		}
	})
}

func someClaims() *rapid.Generator[store.Claim] {
	return rapid.Custom(func(t *rapid.T) store.Claim {
		return store.Claim{
			Run: exitRun, Token: rapid.Int64Range(0, 9).Draw(t, "token"), Limit: rapid.IntRange(0, 3).Draw(t, "limit"),
			Now: someTimes().Draw(t, "now"), MinStay: time.Minute, MaxStay: 4 * time.Minute,
		}
	})
}

func (m *machine) entry(t *rapid.T) {
	e := someEntries().Draw(t, "entry")
	got, err := m.real.RecordEntry(m.ctx, e)
	want(t, got, err, m.model.recordEntry(e))
}

func (m *machine) exit(t *rapid.T) {
	e := someExits().Draw(t, "exit")
	got, err := m.real.RecordExit(m.ctx, e)
	want(t, got, err, m.model.recordExit(e))
}

func (m *machine) settle(t *rapid.T) {
	id := someOrigins(exitRun).Draw(t, "exit").ID
	got, err := m.real.SettleSummary(m.ctx, 0, id)
	want(t, got, err, m.model.settle(id))
}

func (m *machine) deadLetter(t *rapid.T) {
	key := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "key"))
	err := m.real.RecordDeadLetter(m.ctx, 0, key)
	m.model.deadLetters[key] = true
	want(t, "counted", err, "counted")
}

func (m *machine) lease(t *rapid.T) {
	n := rapid.IntRange(1, 1000).Draw(t, "n")
	got, err := m.real.Lease(m.ctx, store.CounterEntries, n)
	want(t, got, err, m.model.leased)
	m.model.leased += int64(n)
}

func (m *machine) confirm(t *rapid.T) {
	c := store.Confirmation{
		Run: entryRun, Type: event.TypeEntry, MaxStay: 4 * time.Minute,
		From: rapid.Int64Range(0, 6).Draw(t, "from"),
	}
	if rapid.Bool().Draw(t, "exits") {
		c.Run, c.Type = exitRun, event.TypeExit
	}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		e := store.Published{Plate: somePlates().Draw(t, "plate"), At: someTimes().Draw(t, "at")}
		if c.Type == event.TypeExit {
			e.Intent = someIntents().Draw(t, "intent")
		}
		c.Events = append(c.Events, e)
	}
	got, err := m.real.Confirm(m.ctx, c)
	want(t, got, err, m.model.confirm(c))
}

func (m *machine) claim(t *rapid.T) {
	c := someClaims().Draw(t, "claim")
	got, err := m.real.Claim(m.ctx, c)
	want(t, plateText(got), err, plateText(m.model.claim(c)))
}

func (m *machine) release(t *rapid.T) {
	c := someClaims().Draw(t, "claim")
	var plates []store.Plate
	for range rapid.IntRange(0, 3).Draw(t, "plates") {
		plates = append(plates, store.Plate{Plate: somePlates().Draw(t, "plate")})
	}
	err := m.real.Release(m.ctx, c, plates)
	m.model.release(c, plates)
	want(t, "released", err, "released")
}

func (m *machine) starved(t *rapid.T) {
	run, total := somePlates().Draw(t, "run"), rapid.Int64Range(0, 1<<53).Draw(t, "total")
	err := m.real.CountStarved(m.ctx, run, total)
	m.model.starved[run] = max(m.model.starved[run], total)
	want(t, "counted", err, "counted")
}

// burst delivers one event several times concurrently. The store must return the same results as the model, in any
// order.
func (m *machine) burst(t *rapid.T) {
	enter, leave := someEntries().Draw(t, "entry"), someExits().Draw(t, "exit")
	isEntry := rapid.Bool().Draw(t, "of entries")
	got := make([]string, rapid.IntRange(2, 6).Draw(t, "deliveries"))
	expected := make([]string, len(got))
	var group errgroup.Group
	for i := range got {
		group.Go(func() error {
			if isEntry {
				result, err := m.real.RecordEntry(m.ctx, enter)
				got[i] = string(result)
				return err
			}
			result, err := m.real.RecordExit(m.ctx, leave)
			got[i] = string(result.Result)
			return err
		})
		if isEntry {
			expected[i] = string(m.model.recordEntry(enter))
		} else {
			expected[i] = string(m.model.recordExit(leave).Result)
		}
	}
	err := group.Wait()
	slices.Sort(got)
	slices.Sort(expected)
	want(t, got, err, expected)
}

func (m *machine) check(t *rapid.T) {
	counts, err := m.real.Counts(m.ctx)
	want(t, counts, err, m.model.sum())
	outbox, err := m.real.Outbox(m.ctx)
	want(t, outbox, err, int64(len(m.model.outbox)))
	pool, err := m.real.PoolSize(m.ctx)
	want(t, pool, err, int64(len(m.model.pool)))
	runs, err := m.real.Runs(m.ctx)
	want(t, runs, err, m.model.registered())
	for _, run := range []string{entryRun, exitRun} {
		chunk, err := m.real.Chunk(m.ctx, store.Run{Run: run}, 0)
		want(t, bits(chunk.Seen, 0), err, m.model.bits(m.model.seen, run))
		want(t, bits(chunk.Matched, 0), err, m.model.bits(m.model.matched, run))
	}
}

// want fails the test unless the store returned the same result as the model.
func want[T any](t *rapid.T, got T, err error, expected T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Fatalf("the results differ (-model +store):\n%s", diff)
	}
}

func plateText(plates []store.Plate) string {
	var texts []string
	for _, p := range plates {
		texts = append(texts, fmt.Sprintf("%s@%d", p.Plate, p.EntryAt.UnixMilli()))
	}
	return strings.Join(texts, " ")
}

// model predicts the results of store operations in one partition. Its data never expires.
type model struct {
	seen        map[string]bool // the IDs of the events that have taken effect
	matched     map[string]bool // the IDs of the exits whose bit in Chunk.Matched is set
	visits      map[string]time.Time
	outbox      map[string]event.Summary
	deadLetters map[string]bool
	starved     map[string]int64
	counts      store.Counts
	leased      int64
	pool        map[string]int64 // maps each plate to its entry time in Unix milliseconds
	runs        map[string]*store.Run
	claims      map[int64][]store.Plate
}

func newModel() *model {
	return &model{
		seen: map[string]bool{}, matched: map[string]bool{}, visits: map[string]time.Time{},
		outbox: map[string]event.Summary{}, deadLetters: map[string]bool{}, starved: map[string]int64{},
		pool: map[string]int64{}, runs: map[string]*store.Run{}, claims: map[int64][]store.Plate{},
	}
}

func (m *model) recordEntry(e store.EntryStep) store.Result {
	if m.seen[e.Origin.ID] {
		m.counts.DuplicatesSuppressed++
		return store.ResultDuplicate
	}
	m.seen[e.Origin.ID] = true
	m.visits[e.Plate] = e.At
	if e.Origin.Generated() {
		m.counts.EntriesRecorded++
	} else {
		m.counts.ExternalEntries++
	}
	return store.ResultRecorded
}

func (m *model) recordExit(e store.ExitStep) store.ExitResult {
	id := e.Origin.ID
	if m.seen[id] {
		if summary, found := m.outbox[id]; found {
			return store.ExitResult{Result: store.ResultPending, Summary: summary}
		}
		m.counts.DuplicatesSuppressed++
		return store.ExitResult{Result: store.ResultDuplicate}
	}
	own := e.Origin.Generated()
	entry, parked := m.visits[e.Plate]
	switch {
	case own && e.Intent == event.IntentUnmatched:
		m.seen[id] = true
		m.counts.UnmatchedExpected++
		return store.ExitResult{Result: store.ResultUnmatchedExpected}
	case parked && entry.After(e.At):
		return store.ExitResult{Result: store.ResultPrecedesEntry}
	case !parked && !e.LastAttempt:
		return store.ExitResult{Result: store.ResultEarly}
	}
	m.seen[id] = true
	m.matched[id] = own
	switch {
	case !parked && own:
		m.counts.UnmatchedUnexpected++
		return store.ExitResult{Result: store.ResultUnmatchedUnexpected}
	case !parked:
		m.counts.EntryNotFound++
		return store.ExitResult{Result: store.ResultEntryNotFound}
	case own:
		m.counts.Matched++
	default:
		m.counts.ExternalMatched++
	}
	delete(m.visits, e.Plate)
	m.outbox[id] = event.Summary{ID: id, Plate: e.Plate, EntryAt: entry, ExitAt: e.At}
	return store.ExitResult{Result: store.ResultMatched, Summary: m.outbox[id]}
}

func (m *model) settle(id string) store.Result {
	if _, found := m.outbox[id]; !found {
		m.counts.DuplicatesSuppressed++
		return store.ResultDuplicate
	}
	delete(m.outbox, id)
	m.counts.SummariesStored++
	return store.ResultSettled
}

func (m *model) confirm(c store.Confirmation) int64 {
	r := m.runs[c.Run]
	if r == nil {
		if c.From > 0 {
			return 0
		}
		r = &store.Run{Run: c.Run, Type: c.Type}
		m.runs[c.Run] = r
	}
	if r.Confirmed < c.From {
		return r.Confirmed
	}
	var newest int64
	for i, e := range c.Events {
		newest = max(newest, e.At.UnixMilli())
		if c.From+int64(i) < r.Confirmed {
			continue
		}
		r.Confirmed++
		switch e.Intent {
		case event.IntentMatched:
			r.Matched++
		case event.IntentUnmatched:
			r.Unmatched++
		}
		if c.Type == event.TypeEntry {
			m.pool[e.Plate] = e.At.UnixMilli()
		}
		if c.Type == event.TypeEntry && i == len(c.Events)-1 {
			m.evict(newest - c.MaxStay.Milliseconds())
		}
	}
	return r.Confirmed
}

func (m *model) evict(until int64) {
	for plate, at := range m.pool {
		if at <= until {
			delete(m.pool, plate)
		}
	}
}

func (m *model) claim(c store.Claim) []store.Plate {
	if c.Limit == 0 {
		return nil
	}
	if before, repeated := m.claims[c.Token]; repeated {
		return before
	}
	m.evict(c.Now.UnixMilli() - c.MaxStay.Milliseconds())
	var plates []store.Plate
	for plate, at := range m.pool {
		if at <= c.Now.UnixMilli()-c.MinStay.Milliseconds() {
			plates = append(plates, store.Plate{Plate: plate, EntryAt: time.UnixMilli(at)})
		}
	}
	slices.SortFunc(plates, func(a, b store.Plate) int {
		if order := a.EntryAt.Compare(b.EntryAt); order != 0 {
			return order
		}
		return strings.Compare(a.Plate, b.Plate)
	})
	plates = plates[:min(len(plates), c.Limit)]
	if len(plates) > 0 {
		m.claims[c.Token] = plates
	}
	for _, p := range plates {
		delete(m.pool, p.Plate)
	}
	return plates
}

func (m *model) release(c store.Claim, plates []store.Plate) {
	claimed, found := m.claims[c.Token]
	if !found {
		return
	}
	m.claims[c.Token] = nil
	for _, p := range plates {
		for _, was := range claimed {
			if was.Plate == p.Plate {
				m.pool[p.Plate] = was.EntryAt.UnixMilli()
			}
		}
	}
}

func (m *model) sum() store.Counts {
	counts := m.counts
	counts.DeadLettered = int64(len(m.deadLetters))
	for _, n := range m.starved {
		counts.Starved += n
	}
	return counts
}

func (m *model) registered() []store.Run {
	var runs []store.Run
	for _, run := range []string{entryRun, exitRun} {
		if r := m.runs[run]; r != nil {
			runs = append(runs, *r)
		}
	}
	return runs
}

// bits returns the sequence numbers of those events of a run whose IDs are in ids. These bits must be set in the
// store.
func (m *model) bits(ids map[string]bool, run string) []int64 {
	var seqs []int64
	for seq := range int64(10) {
		if ids[origin(run, seq).ID] {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}
