// Package ledger audits a simulation. It compares, event by event, what the generators published with what took effect,
// and returns a verdict. docs/ledger.md derives the equations.
package ledger

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// DefaultNamed is the default of Options.Named: the maximum number of lost events that a report names.
const DefaultNamed = 100

// Options configures an audit. The zero value suits a simulation that is still running.
type Options struct {
	// AtRest means that the generators have stopped and no event is in flight. A confirmed event without effect counts
	// as lost if AtRest is true, and otherwise as outstanding.
	AtRest bool
	// Named is the maximum number of lost events whose identifiers the report contains. 0 means DefaultNamed.
	Named int
}

// Audit reads the whole ledger.
func Audit(ctx context.Context, l store.Ledger, o Options) (Report, error) {
	return NewAuditor(l).Audit(ctx, o)
}

// Auditor audits one simulation repeatedly. Use the function Audit for the final audit: an Auditor does not read
// complete chunks again, so it overlooks their loss. An Auditor is not safe for concurrent use.
type Auditor struct {
	ledger   store.Ledger
	complete map[runKey]completeChunks
}

type runKey struct {
	run       string
	partition int
}

// completeChunks describes the leading chunks of one generator process and partition whose events are all confirmed and
// have taken effect.
type completeChunks struct {
	chunks  int64 // how many leading chunks are complete
	matched int64 // the number of exits in the complete chunks that have the intent "matched"
}

// NewAuditor returns an Auditor. Its first audit reads the whole ledger.
func NewAuditor(l store.Ledger) *Auditor {
	return &Auditor{ledger: l, complete: map[runKey]completeChunks{}}
}

// Audit reads only the parts of the ledger that may have changed since the previous call.
func (a *Auditor) Audit(ctx context.Context, o Options) (Report, error) {
	if o.Named == 0 {
		o.Named = DefaultNamed
	}
	// Read the counters before the bitmaps. Then events that take effect between the two reads can make TakenTwice too
	// small, but never too large.
	counts, err := a.ledger.Counts(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("read the counters of the ledger: %w", err)
	}
	outbox, err := a.ledger.Outbox(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("count the summaries in the outbox: %w", err)
	}
	runs, err := a.ledger.Runs(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("list the generator processes in the ledger: %w", err)
	}
	r := account{Options: o, seenByRun: map[string]bool{}}
	for _, run := range runs {
		if err := a.readRun(ctx, run, &r); err != nil {
			return Report{}, fmt.Errorf("audit the events of generator process %s in partition %d: %w", run.Run, run.Partition, err)
		}
	}
	// Check for a loss of data last, so that a loss during the audit is detected too.
	data, err := a.ledger.Dataset(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("check whether the store has lost data: %w", err)
	}
	report := r.report(counts, outbox)
	report.Partitions = data.Partitions
	if !data.LostAt.IsZero() {
		report.DataLostAt = &data.LostAt
	}
	return report, nil
}

// readRun adds the events of one generator process in one partition to the sums in r.
func (a *Auditor) readRun(ctx context.Context, run store.Run, r *account) error {
	if run.Type == "" { // the run is registered, but its record is missing
		r.forgotten++
		return nil
	}
	key := runKey{run.Run, run.Partition}
	known := a.complete[key]
	if known.chunks*store.ChunkBits > run.Confirmed {
		known = completeChunks{} // the store has lost data, so read all chunks again
	}
	r.begin(run, known)
	for index := known.chunks; index*store.ChunkBits < run.Confirmed+store.MaxOutstanding; index++ {
		chunk, err := a.ledger.Chunk(ctx, run, index)
		if err != nil {
			return fmt.Errorf("read chunk %d of the bitmaps: %w", index, err)
		}
		below, beyond := tally(chunk, index, run.Confirmed)
		r.add(run, chunk, index, below, beyond)
		if below.seen == store.ChunkBits && known.chunks == index {
			known = completeChunks{chunks: index + 1, matched: known.matched + below.matched}
		}
	}
	a.complete[key] = known
	return nil
}

// tallied contains the number of all events that took effect, and the number of exits that took effect with the intent
// "matched".
type tallied struct {
	seen, matched int64
}

func (t tallied) plus(u tallied) tallied { return tallied{t.seen + u.seen, t.matched + u.matched} }

// tally counts the events of a chunk that took effect, separately for sequence numbers below the watermark and beyond
// it. No event is published beyond watermark+store.MaxOutstanding.
func tally(c store.Chunk, index, watermark int64) (below, beyond tallied) {
	first := index * store.ChunkBits
	limit := watermark + store.MaxOutstanding
	below = countBits(c, 0, watermark-first)
	beyond = countBits(c, watermark-first, limit-first)
	return below, beyond
}

// countBits counts the bits that are set in the range [from, to) of a chunk. The range may extend beyond the chunk.
func countBits(c store.Chunk, from, to int64) tallied {
	var t tallied
	from, to = max(from, 0), min(to, store.ChunkBits)
	for i := from / 8; i*8 < to && i < int64(len(c.Seen)); i++ {
		seen := c.Seen[i] & byteMask(i*8, from, to)
		t.seen += int64(bits.OnesCount8(seen))
		if i < int64(len(c.Matched)) {
			t.matched += int64(bits.OnesCount8(seen & c.Matched[i]))
		}
	}
	return t
}

// byteMask returns a mask that selects the bits with an index in [from, to) in one byte. The most significant bit has
// the index first.
func byteMask(first, from, to int64) byte {
	mask := byte(0xff)
	if from > first {
		mask &= 0xff >> (from - first)
	}
	if to < first+8 {
		mask &= 0xff << (first + 8 - to)
	}
	return mask
}

// account sums up the events of all generator processes during one audit.
type account struct {
	Options
	entriesConfirmed, matchedConfirmed, unmatchedConfirmed int64
	entries, exits                                         side
	runs, forgotten                                        int64
	seenByRun                                              map[string]bool
	missing                                                int64
	named                                                  []string
}

// side counts the events of one type that took effect: below the watermark, where the broker has confirmed all events,
// and beyond it.
type side struct {
	below, beyond tallied
}

func (r *account) begin(run store.Run, known completeChunks) {
	if !r.seenByRun[run.Run] {
		r.seenByRun[run.Run] = true
		r.runs++
	}
	if run.Type == event.TypeEntry {
		r.entriesConfirmed += run.Confirmed
	} else {
		r.matchedConfirmed += run.Matched
		r.unmatchedConfirmed += run.Unmatched
	}
	s := r.side(run.Type)
	s.below = s.below.plus(tallied{seen: known.chunks * store.ChunkBits, matched: known.matched})
}

func (r *account) side(t event.Type) *side {
	if t == event.TypeEntry {
		return &r.entries
	}
	return &r.exits
}

func (r *account) add(run store.Run, c store.Chunk, index int64, below, beyond tallied) {
	s := r.side(run.Type)
	s.below, s.beyond = s.below.plus(below), s.beyond.plus(beyond)
	expected := min(max(run.Confirmed-index*store.ChunkBits, 0), store.ChunkBits)
	if below.seen < expected {
		r.missing += expected - below.seen
		r.nameLost(run, c, index, expected)
	}
}

// nameLost checks the first n events of a chunk, and records the identifiers of the events that did not take effect.
func (r *account) nameLost(run store.Run, c store.Chunk, index, n int64) {
	if !r.AtRest {
		return
	}
	for i := int64(0); i < n && len(r.named) < r.Named; i++ {
		if i/8 >= int64(len(c.Seen)) || c.Seen[i/8]&(0x80>>(i%8)) == 0 {
			id := event.ID{Run: run.Run, Partition: run.Partition, Seq: index*store.ChunkBits + i}
			r.named = append(r.named, id.String())
		}
	}
}

// report returns the result of the audit. To find contradictions, it compares the counters of the ledger with the bits
// in the bitmaps.
func (r *account) report(c store.Counts, outbox int64) Report {
	matchedSeen := r.exits.below.matched + r.exits.beyond.matched
	unmatchedSeen := r.exits.below.seen + r.exits.beyond.seen - matchedSeen
	entries := c.EntriesRecorded - (r.entries.below.seen + r.entries.beyond.seen)
	matched := c.Matched + c.UnmatchedUnexpected - matchedSeen
	unmatched := c.UnmatchedExpected - unmatchedSeen

	report := Report{
		EntriesConfirmed:        r.entriesConfirmed,
		EntriesRecorded:         c.EntriesRecorded,
		ExitsMatchedConfirmed:   r.matchedConfirmed,
		ExitsUnmatchedConfirmed: r.unmatchedConfirmed,
		Matched:                 c.Matched,
		UnmatchedExpected:       c.UnmatchedExpected,
		UnmatchedUnexpected:     c.UnmatchedUnexpected,
		SummariesStored:         c.SummariesStored,
		DuplicatesSuppressed:    c.DuplicatesSuppressed,
		DeadLettered:            c.DeadLettered,
		Indeterminate:           r.entries.beyond.seen + r.exits.beyond.seen,
		Starved:                 c.Starved,
		AtRest:                  r.AtRest,
		TakenTwice:              max(entries, 0) + max(matched, 0) + max(unmatched, 0),
		Outbox:                  outbox,
		IndeterminateEntries:    r.entries.beyond.seen,
		IndeterminateMatched:    r.exits.beyond.matched,
		IndeterminateUnmatched:  r.exits.beyond.seen - r.exits.beyond.matched,
		MissingEntries:          r.entriesConfirmed - r.entries.below.seen,
		MissingMatched:          r.matchedConfirmed - r.exits.below.matched,
		MissingUnmatched:        r.unmatchedConfirmed - (r.exits.below.seen - r.exits.below.matched),
		ExternalEntries:         c.ExternalEntries,
		ExternalMatched:         c.ExternalMatched,
		EntryNotFound:           c.EntryNotFound,
		Runs:                    r.runs,
		ForgottenRuns:           r.forgotten,
		LostEvents:              r.named,
	}
	if r.AtRest {
		report.Lost = r.missing
		report.Uncounted = max(-entries, 0) + max(-matched, 0) + max(-unmatched, 0)
	} else {
		report.Outstanding = r.missing
	}
	return report
}
