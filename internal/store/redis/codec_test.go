package redis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/test/servers"
)

func instants() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		sec := rapid.Int64Range(instantOrigin, instantEnd).Draw(t, "seconds")
		return time.Unix(sec, rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
	})
}

func TestInstant_EncodedTimes_SortChronologically(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := instants().Draw(t, "a")
		b := rapid.OneOf(instants(), rapid.Custom(func(t *rapid.T) time.Time {
			near := a.Add(time.Duration(rapid.Int64Range(-10, 10).Draw(t, "nanoseconds from a")))
			if near.Unix() < instantOrigin || near.Unix() > instantEnd {
				return a // appendInstant cannot encode this instant
			}
			return near
		})).Draw(t, "b")
		textA, textB := string(appendInstant(nil, a)), string(appendInstant(nil, b))
		if got, want := strings.Compare(textA, textB), a.Compare(b); got != want {
			t.Fatalf("comparing %q and %q gives %d; comparing their times gives %d", textA, textB, got, want)
		}
	})
}

func TestInstant_EncodedAndParsed_IsUnchanged(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := instants().Draw(t, "instant")
		if got, err := parseInstant(string(appendInstant(nil, want))); err != nil || !got.Equal(want) {
			t.Fatalf("got %v, %v; want %v", got, err, want)
		}
	})
}

func TestInstant_OutOfRange_IsClamped(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		at   time.Time
		want string
	}{
		{at: time.Unix(instantOrigin-1, 999_999_999), want: "000000000000" + "000000000"},
		{at: time.Unix(instantEnd+1, 0), want: "999999999999" + "999999999"},
		{at: time.Unix(1<<62, 0), want: "999999999999" + "999999999"},
		{at: time.Unix(-1<<62, 0), want: "000000000000" + "000000000"},
		{at: time.Unix(0, 1), want: "100000000000" + "000000001"},
	} {
		if got := string(appendInstant(nil, test.at)); got != test.want {
			t.Errorf("%v is encoded as %q; want %q", test.at, got, test.want)
		}
	}
}

func FuzzParseExitReply_AcceptedReply_RoundTrips(f *testing.F) {
	row := strings.Repeat("0", 2*instantWidth)
	for _, seed := range []string{
		"", "early", "matched", "matched ", "matched " + row + "AA-1", "pending " + row, "pending x" + row[1:],
		"matched " + row[1:], "recorded", "duplicate 1", "entry_not_found",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		got, err := parseExitReply(reply, "id")
		if err != nil {
			return
		}
		if name, _, _ := strings.Cut(reply, " "); string(got.Result) != name {
			t.Fatalf("the result of %q is %q", reply, got.Result)
		}
		if got.Summary == (event.Summary{}) {
			return
		}
		again := fmt.Sprintf("%s %s%s%s", got.Result, appendInstant(nil, got.Summary.EntryAt),
			appendInstant(nil, got.Summary.ExitAt), got.Summary.Plate)
		if again != reply {
			t.Fatalf("%q is parsed, and then encoded as %q", reply, again)
		}
	})
}

func TestParseExitReply_UnexpectedReply_Fails(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("0", 2*instantWidth)
	for _, reply := range []string{
		"", "recorded", "matched", "matched ", "matched " + digits[1:], "pending " + digits[1:] + "x",
		"matched x" + digits[1:], "Matched " + digits,
	} {
		if got, err := parseExitReply(reply, "id"); err == nil {
			t.Errorf("parseExitReply(%q) = %v; want an error", reply, got)
		}
	}
	if got, err := parsePlates([]string{"AA-1", "noon"}); err == nil {
		t.Errorf("parsePlates = %v; want an error", got)
	}
	if got, err := parseRun("r", 0, map[string]string{"next": "many"}); err == nil {
		t.Errorf("parseRun = %v; want an error", got)
	}
	if err := addCounts(&store.Counts{}, map[string]string{"entries": "many"}); err == nil {
		t.Error("addCounts accepted a count that is not a number")
	}
}

func TestStorePurge_KeepsOtherSimulations(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	redis := client(t, server.URI())
	names := []string{"x", "x*", "xy", "x?", "x[y]", `x\`, "x:1", "X"}
	stores := map[string]*Store{}
	at := time.Now().Truncate(time.Second)
	for i, name := range names {
		stores[name] = open(t, server.URI(), name, 2)
		record(t, stores[name], 0, store.ResultRecorded)
		noError(t, stores[name].AppendTimeline(t.Context(), "p", []timeline.Row{{Second: at.Unix() + int64(i)}}))
	}
	timelineOf := func(name string) []int64 {
		rows, err := stores[name].ReadTimeline(t.Context(), at.Add(-time.Hour), at.Add(time.Hour))
		noError(t, err)
		var seconds []int64
		for _, row := range rows {
			seconds = append(seconds, row.Second-at.Unix())
		}
		return seconds
	}
	for i, name := range names {
		if got := timelineOf(name); !slices.Equal(got, []int64{int64(i)}) {
			t.Errorf("the timeline of %q has the rows %v, want only its own, %d", name, got, i)
		}
	}
	foreign := []string{"parking", "parking:{x:0", "parking:{x:}:ledger", "parking:{x:y}:ledger", "{x:0}"}
	for _, key := range foreign {
		noError(t, redis.Set(t.Context(), key, "1", 0).Err())
	}
	for i, name := range names {
		noError(t, stores[name].Purge(t.Context()))
		for j, other := range names {
			if left := countsOf(t, stores[other]).EntriesRecorded == 1; left != (j > i) {
				t.Errorf("after the purge of %q, the simulation %q has its entry: %t", name, other, left)
			}
			if left := len(timelineOf(other)) == 1; left != (j > i) {
				t.Errorf("after the purge of %q, the simulation %q has its timeline: %t", name, other, left)
			}
		}
	}
	left, err := redis.Keys(t.Context(), "*").Result()
	noError(t, err)
	slices.Sort(left)
	slices.Sort(foreign)
	if diff := cmp.Diff(foreign, left); diff != "" {
		t.Errorf("keys left (-want +got):\n%s", diff)
	}
}

func TestStorePurge_FewerPartitionsThanBefore_RemovesAllKeys(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	fillAll := open(t, server.URI(), "shrunk", 12)
	for partition := range 12 {
		noError(t, fillAll.RecordDeadLetter(t.Context(), partition, "letter"))
	}
	noError(t, open(t, server.URI(), "shrunk", 1).Purge(t.Context()))
	if left, err := client(t, server.URI()).DBSize(t.Context()).Result(); err != nil || left != 0 {
		t.Errorf("%d keys are left, %v; want none", left, err)
	}
}
