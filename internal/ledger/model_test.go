package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

type modelEvent struct {
	// intent is the intent that the generator published. arrived is the intent that the processor read.
	intent, arrived event.Intent
	taken           int  // how often the event took effect
	met             bool // the exit found its visit
	posted          int  // how often the summary of the visit was counted as stored
	deadLettered    bool
}

// modelRun is the history of one generator process in one partition. The events at indexes below watermark are
// confirmed.
type modelRun struct {
	id        event.ID // only the fields Run and Partition are used
	typ       event.Type
	watermark int
	events    []modelEvent
}

// model is a fake store that computes its ledger from a known history of events.
type model struct {
	runs    []modelRun
	skewed  store.Counts // errors that the method Counts adds to the true counters; zero means no errors
	reads   []int64      // the indexes of the chunks that the audit has read
	failing string       // the method with this name returns an error
	lostAt  time.Time
}

func (m *model) fails(method string) error {
	if m.failing == method {
		return errors.New("out of order")
	}
	return nil
}

func (m *model) Counts(context.Context) (store.Counts, error) {
	c := m.skewed
	for _, run := range m.runs {
		for _, e := range run.events {
			m.count(&c, run.typ, e)
		}
	}
	return c, m.fails("Counts")
}

func (m *model) count(c *store.Counts, typ event.Type, e modelEvent) {
	n := int64(e.taken)
	switch {
	case typ == event.TypeEntry:
		c.EntriesRecorded += n
	case e.arrived == event.IntentUnmatched:
		c.UnmatchedExpected += n
	case e.met:
		c.Matched += n
		c.SummariesStored += int64(e.posted)
	default:
		c.UnmatchedUnexpected += n
	}
	if e.deadLettered {
		c.DeadLettered++
	}
}

func (m *model) Outbox(context.Context) (int64, error) {
	var n int64
	for _, run := range m.runs {
		for _, e := range run.events {
			if run.typ == event.TypeExit && e.met && e.arrived != event.IntentUnmatched {
				n += int64(max(e.taken-e.posted, 0))
			}
		}
	}
	return n, m.fails("Outbox")
}

func (m *model) Runs(context.Context) ([]store.Run, error) {
	runs := make([]store.Run, 0, len(m.runs))
	for _, run := range m.runs {
		r := store.Run{Run: run.id.Run, Type: run.typ, Partition: run.id.Partition, Confirmed: int64(run.watermark)}
		for _, e := range run.events[:run.watermark] {
			switch e.intent {
			case event.IntentMatched:
				r.Matched++
			case event.IntentUnmatched:
				r.Unmatched++
			}
		}
		runs = append(runs, r)
	}
	return runs, m.fails("Runs")
}

func (m *model) Chunk(_ context.Context, r store.Run, index int64) (store.Chunk, error) {
	m.reads = append(m.reads, index)
	i := slices.IndexFunc(m.runs, func(run modelRun) bool { return run.id.Run == r.Run && run.id.Partition == r.Partition })
	if i < 0 {
		return store.Chunk{}, fmt.Errorf("no run %s", r.Run)
	}
	var c store.Chunk
	for seq, e := range m.runs[i].events {
		bit := int64(seq) - index*store.ChunkBits
		if bit < 0 || bit >= store.ChunkBits || e.taken == 0 {
			continue
		}
		c.Seen = setBit(c.Seen, bit)
		if e.arrived == event.IntentMatched {
			c.Matched = setBit(c.Matched, bit)
		}
	}
	return c, m.fails("Chunk")
}

func (m *model) Dataset(context.Context) (store.Dataset, error) {
	return store.Dataset{Partitions: 4, LostAt: m.lostAt}, m.fails("Dataset")
}

func setBit(bitmap []byte, bit int64) []byte {
	for int64(len(bitmap)) <= bit/8 {
		bitmap = append(bitmap, 0)
	}
	bitmap[bit/8] |= 0x80 >> (bit % 8)
	return bitmap
}

// sound reports whether the history contains no error. The result must not depend on the audit that the test checks.
func (m *model) sound() bool {
	for _, run := range m.runs {
		for seq, e := range run.events {
			confirmed := seq < run.watermark
			switch {
			case confirmed && e.taken != 1, !confirmed && e.taken > 1:
				return false
			case e.deadLettered:
				return false
			case run.typ == event.TypeExit && e.taken == 1 && !m.exitSound(e, confirmed):
				return false
			}
		}
	}
	return m.skewed == store.Counts{}
}

func (m *model) exitSound(e modelEvent, confirmed bool) bool {
	if confirmed && e.arrived != e.intent {
		return false
	}
	return e.arrived == event.IntentUnmatched || (e.met && e.posted == 1)
}

// lost returns the identifiers of the confirmed events that never took effect.
func (m *model) lost() []string {
	var ids []string
	for _, run := range m.runs {
		for seq, e := range run.events[:run.watermark] {
			if e.taken == 0 {
				id := run.id
				id.Seq = int64(seq)
				ids = append(ids, id.String())
			}
		}
	}
	return ids
}
