package memory

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
)

func TestConformance_CrashableStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(_ *testing.T, partitions int) store.Store {
		return newStore(Config{Partitions: partitions, Crashable: true}, 0)
	})
}

// history performs a fixed sequence of steps on a store. Each step depends only on its number.
type history struct {
	t interface {
		Context() context.Context
		Fatal(args ...any)
	}
	store *Store
	mark  store.Mark
}

const maxStay = time.Hour

// step makes call number n of a fixed sequence. Five successive calls process one plate.
func (h *history) step(n int) {
	ctx, plate, at := h.t.Context(), fmt.Sprint("plate-", n/5), time.Unix(int64(n/5), 0)
	seq := int64(n / 5)
	origin := func(run string) store.Origin {
		return store.Origin{ID: fmt.Sprint(run, "-0-", seq), Run: run, Seq: seq}
	}
	var err error
	switch n % 5 {
	case 0:
		_, err = h.store.RecordEntry(ctx, store.EntryStep{Origin: origin("in"), Plate: plate, At: at, MaxStay: maxStay})
	case 1:
		_, err = h.store.Confirm(ctx, store.Confirmation{Run: "in", Type: event.TypeEntry, From: seq, Events: []store.Published{{Plate: plate, At: at}}, MaxStay: maxStay})
	case 2:
		_, err = h.store.Claim(ctx, store.Claim{Run: "out", Token: seq, Limit: 1, Now: at.Add(time.Second), MaxStay: maxStay})
	case 3:
		_, err = h.store.RecordExit(ctx, store.ExitStep{Origin: origin("out"), Plate: plate, At: at.Add(time.Second), Intent: event.IntentMatched, LastAttempt: true})
	case 4:
		_, err = h.store.SettleSummary(ctx, 0, origin("out").ID)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// ledger returns the data of the store that an audit reads.
func (h *history) ledger() any {
	ctx := h.t.Context()
	counts, err := h.store.Counts(ctx)
	runs, err2 := h.store.Runs(ctx)
	pool, err3 := h.store.PoolSize(ctx)
	in, err4 := h.store.Chunk(ctx, store.Run{Run: "in"}, 0)
	out, err5 := h.store.Chunk(ctx, store.Run{Run: "out"}, 0)
	if err := errors.Join(err, err2, err3, err4, err5); err != nil {
		h.t.Fatal(err)
	}
	counts.DuplicatesSuppressed = 0 // may differ, because only one history repeats steps
	return []any{counts, runs, pool, in, out}
}

func (h *history) observe() {
	var err error
	if h.mark, err = h.store.Mark(h.t.Context(), 0); err != nil {
		h.t.Fatal(err)
	}
}

// TestMemoryStoreCrash_LosesOnlyTheLatestOperations checks that a crash loses only the latest operations, and none that
// is durable. It must be possible to repeat the lost operations.
func TestMemoryStoreCrash_LosesOnlyTheLatestOperations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "steps")
		crashed := &history{t: t, store: New(Config{Partitions: 1, Crashable: true})}
		crashed.observe()
		durable := 0
		for i := range n {
			crashed.step(i)
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				if err := crashed.store.WaitDurable(t.Context(), 0, crashed.mark); err != nil {
					t.Fatal(err)
				}
				durable = i + 1
			case 1:
				crashed.store.Crash(rapid.Uint64().Draw(t, "draw"))
				if err := crashed.store.WaitDurable(t.Context(), 0, crashed.mark); !errors.Is(err, store.ErrRolledBack) {
					t.Fatalf("after a crash, WaitDurable returns %v, want ErrRolledBack", err)
				}
				crashed.observe()
				kept := prefixOf(t, crashed, i+1)
				if kept < durable {
					t.Fatalf("%d of %d steps survived, but %d were durable", kept, i+1, durable)
				}
				for repeated := kept; repeated <= i; repeated++ {
					crashed.step(repeated)
				}
			}
		}
		whole := &history{t: t, store: New(Config{Partitions: 1})}
		for i := range n {
			whole.step(i)
		}
		if diff := cmp.Diff(whole.ledger(), crashed.ledger()); diff != "" {
			t.Fatalf("after the lost steps were repeated, the ledger differs (-without crash +with):\n%s", diff)
		}
	})
}

// prefixOf returns how many of the n steps have effects in the store, and fails the test unless these are the first
// steps.
func prefixOf(t *rapid.T, h *history, n int) int {
	got := h.ledger()
	model := &history{t: t, store: New(Config{Partitions: 1})}
	for kept := 0; ; kept++ {
		if reflect.DeepEqual(got, model.ledger()) {
			return kept
		}
		if kept == n {
			t.Fatalf("the ledger after the crash is that of no prefix of the history: %+v", got)
		}
		model.step(kept)
	}
}

func TestMemoryStoreCrash_LosesNonDurableEffects(t *testing.T) {
	t.Parallel()
	lost := 0
	for draw := range uint64(50) {
		h := &history{t: t, store: New(Config{Partitions: 1, Crashable: true})}
		for i := range 8 {
			h.step(i)
		}
		before := h.ledger()
		if h.store.Crash(draw); !reflect.DeepEqual(before, h.ledger()) {
			lost++
		}
	}
	if lost == 0 {
		t.Error("no crash has lost an effect, although none was durable")
	}
}
