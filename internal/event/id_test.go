package event_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
)

func TestParseID_StringOfAnID_ReturnsTheID(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := event.ID{
			Run:       event.NewRun(),
			Partition: rapid.IntRange(0, 1<<16-1).Draw(t, "partition"),
			Seq:       rapid.Int64Range(0, event.MaxSeq).Draw(t, "seq"),
		}
		if len(id.Run) != event.RunLength {
			t.Fatalf("run %q has %d characters, want %d", id.Run, len(id.Run), event.RunLength)
		}
		if got, ok := event.ParseID(id.String()); !ok || got != id {
			t.Fatalf("%s is parsed as %+v, %t", id, got, ok)
		}
	})
}

func TestParseID_InvalidText_IsRejected(t *testing.T) {
	t.Parallel()
	const run = "0123456789abc"
	for name, text := range map[string]string{
		"an empty text":               "",
		"a UUID":                      "7a1c0f0e-9d3b-4a57-8a55-0b8c6f1d2e3f",
		"a run alone":                 run,
		"no sequence number":          run + "-0",
		"an empty sequence number":    run + "-0-",
		"an empty partition":          run + "--0",
		"a run of 12 characters":      run[1:] + "-0-0",
		"an upper-case run":           strings.ToUpper(run) + "-0-0",
		"a run with a letter above v": "0123456789abw-0-0",
		"a leading zero":              run + "-0-01",
		"a sign":                      run + "-0-+1",
		"a negative number":           run + "-0--1",
		"a partition beyond 16 bits":  run + "-65536-0",
		"a sequence number too large": run + "-0-1099511627776",
		"a number beyond 64 bits":     run + "-0-99999999999999999999",
		"a fourth part":               run + "-0-0-0",
		"an Arabic digit":             run + "-0-١",
	} {
		if id, ok := event.ParseID(text); ok {
			t.Errorf("%s: %q is parsed as %+v, want it rejected", name, text, id)
		}
	}
}

func FuzzParseID_AcceptedText_RoundTrips(f *testing.F) {
	for _, text := range []string{"", "0123456789abc-0-7", "0123456789abc-65535-1099511627775", "0123456789abc-00-7", "x-0-7"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := event.ParseID(text); ok && id.String() != text {
			t.Errorf("%q is parsed as %s, want only the text that String returns to be accepted", text, id)
		}
	})
}

func TestNewRun_ManyCalls_ReturnsDistinctRuns(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 1000 {
		run := event.NewRun()
		if seen[run] {
			t.Fatalf("NewRun returned %s twice", run)
		}
		seen[run] = true
	}
}

// All publishers, in all versions, must assign a plate to the same partition. So PartitionOf must never change.
func TestPartitionOf_ReturnsTheFNV1aHashModuloPartitions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		plate      string
		partitions int
		want       int
	}{
		{"a", 1000, 0xe40c292c % 1000}, // a published test vector of 32-bit FNV-1a
		{"foobar", 64, 0xbf9cf968 % 64},
		{"", 7, 0x811c9dc5 % 7},
		{"foobar", 1, 0},
		{"foobar", 0, 0},
	}
	for _, tt := range tests {
		if got := event.PartitionOf(tt.plate, tt.partitions); got != tt.want {
			t.Errorf("plate %q is in partition %d of %d, want %d", tt.plate, got, tt.partitions, tt.want)
		}
	}
}
