package storetest

import (
	"context"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Benchmark measures the calls of a processor in one partition. An operation of the benchmark "visit" is an entry,
// its exit and the settlement of the summary.
func Benchmark(b *testing.B, callers int, open func(*testing.B) store.Store) {
	b.Helper()
	for _, bench := range []struct {
		name string
		step func(context.Context, store.Store, int64) error
	}{
		{name: "entry", step: benchEntry},
		{name: "unmatched exit", step: benchUnmatched},
		{name: "visit", step: benchVisit},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := open(b)
			var next atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := bench.step(b.Context(), s, next.Add(1)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func benchEntry(ctx context.Context, s store.Store, seq int64) error {
	_, err := s.RecordEntry(ctx, store.EntryStep{
		Origin: benchOrigin(entryRun, seq), Plate: benchPlate(seq), At: noon(), MaxStay: maxStay,
	})
	return err
}

func benchUnmatched(ctx context.Context, s store.Store, seq int64) error {
	_, err := s.RecordExit(ctx, store.ExitStep{
		Origin: benchOrigin(exitRun, seq), Plate: benchPlate(seq), At: noon(), Intent: event.IntentUnmatched,
	})
	return err
}

func benchVisit(ctx context.Context, s store.Store, seq int64) error {
	if err := benchEntry(ctx, s, seq); err != nil {
		return err
	}
	o := benchOrigin(exitRun, seq)
	_, err := s.RecordExit(ctx, store.ExitStep{
		Origin: o, Plate: benchPlate(seq), At: noon(), Intent: event.IntentMatched,
	})
	if err != nil {
		return err
	}
	_, err = s.SettleSummary(ctx, 0, o.ID)
	return err
}

// benchOrigin returns the origin of an event. Like a processor, it allocates memory only for the identifier.
func benchOrigin(run string, seq int64) store.Origin {
	var text [48]byte
	id := event.ID{Run: run, Seq: seq}.Append(text[:0])
	return store.Origin{ID: string(id), Run: run, Seq: seq}
}

func benchPlate(seq int64) string {
	var text [24]byte
	return string(strconv.AppendInt(append(text[:0], 'P'), seq, 10))
}
