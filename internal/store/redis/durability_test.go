package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/test/servers"
)

// While an fsync is slow, the server replies before it writes to its append-only file. A kill before this write loses
// effects that were reported.
func TestWaitDurable_ServerDelaysItsAppendOnlyFile_WaitsForTheWrite(t *testing.T) {
	t.Parallel()
	server := slowServer(t, 1500)
	s := open(t, server.URI(), "trap", 1)
	ctx := t.Context()

	settled(t, s)
	var mark store.Mark
	var lost int64
	next := int64(1) // the function settled has used the sequence number 0
	// On a busy machine, the server may write the event to the file before the kill. So repeat the kill until an event
	// is lost.
	polltest.Until(t, "an event is lost that was only in the server's memory", func() bool {
		mark = markOf(t, s)
		lost = stepIntoBuffer(t, s, &next)
		waited := make(chan error, 1)
		go func() { waited <- s.WaitDurable(ctx, 0, mark) }()
		restart(t, server, s)
		err := <-waited
		survived := seen(t, s, lost)
		if err == nil && !survived {
			t.Fatal("WaitDurable reported a step as durable that was only in the server's memory")
		}
		return err != nil && !survived
	})
	if err := s.WaitDurable(ctx, 0, mark); !errors.Is(err, store.ErrRolledBack) {
		t.Fatalf("WaitDurable with a mark from before the crash = %v; want %v", err, store.ErrRolledBack)
	}

	mark = markOf(t, s)
	record(t, s, lost, store.ResultRecorded)
	if err := s.WaitDurable(ctx, 0, mark); err != nil {
		t.Fatalf("WaitDurable: %v", err)
	}
	restart(t, server, s)
	if !seen(t, s, lost) {
		t.Fatalf("event %d is gone although it was durable", lost)
	}
	if lostAt := datasetOf(t, s).LostAt; !lostAt.IsZero() {
		t.Errorf("a loss was detected at %v; want none, because no lost step was durable", lostAt)
	}
}

// stepIntoBuffer records entries from *next on until the server answers one before writing it to the append-only file.
// It returns the sequence number of this entry.
func stepIntoBuffer(t *testing.T, s *Store, next *int64) (seq int64) {
	t.Helper()
	polltest.Until(t, "the server has a step in its buffer, because its fsync is slow", func() bool {
		seq = *next
		*next++
		if _, err := s.RecordEntry(t.Context(), entryStep(seq)); err != nil {
			t.Fatal(err)
		}
		now, err := s.observers[0].look(t.Context(), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return now.appended > now.written
	})
	return seq
}

// The server is killed at random times. Every effect that was reported as durable must exist, and every step must
// count once.
func TestWaitDurable_ServerIsKilled_DurableStepsSurvive(t *testing.T) {
	t.Parallel()
	for _, disk := range []struct {
		name  string
		start func(*testing.T) *servers.Redis
	}{
		{name: "on a fast disk", start: func(t *testing.T) *servers.Redis {
			return servers.NewRedis(t, servers.RedisOptions{})
		}},
		{name: "on a slow disk", start: func(t *testing.T) *servers.Redis { return slowServer(t, 250) }},
		{name: "while the append-only file is rewritten", start: func(t *testing.T) *servers.Redis {
			return servers.NewRedis(t, servers.RedisOptions{Config: []string{
				"auto-aof-rewrite-min-size 4kb", "auto-aof-rewrite-percentage 1",
			}})
		}},
	} {
		t.Run(disk.name, func(t *testing.T) {
			t.Parallel()
			surviveKills(t, disk.start(t))
		})
	}
}

func surviveKills(t *testing.T, server *servers.Redis) {
	s := open(t, server.URI(), "kills", 1)
	w := &workers{}
	w.start(t, s, 16)
	random := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		reached := w.next.Load() + random.Int64N(3000)
		polltest.Until(t, "more steps", func() bool { return w.next.Load() > reached || t.Failed() })
		restart(t, server, s)
	}
	steps := w.stop()
	if t.Failed() {
		return
	}

	restart(t, server, s)
	want := store.Counts{EntriesRecorded: steps}
	got := countsOf(t, s)
	t.Logf("%d steps, %d repeated after a rollback, %d duplicates", steps, w.repeated.Load(), got.DuplicatesSuppressed)
	got.DuplicatesSuppressed = 0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Counts (-want +got):\n%s", diff)
	}
	for seq := range steps {
		if !seen(t, s, seq) {
			t.Fatalf("event %d is gone although it was durable", seq)
		}
	}
}

// performDurably records an event repeatedly until its effect is durable. It returns how often WaitDurable returned
// store.ErrRolledBack.
func performDurably(ctx context.Context, s *Store, seq int64) (rolledBack int64, err error) {
	for {
		err := recordDurably(ctx, s, seq)
		switch {
		case err == nil:
			return rolledBack, nil
		case ctx.Err() != nil:
			return rolledBack, ctx.Err()
		case errors.Is(err, store.ErrRolledBack):
			rolledBack++
		case !errors.Is(err, store.ErrUnavailable):
			return rolledBack, err
		}
	}
}

func recordDurably(ctx context.Context, s *Store, seq int64) error {
	mark, err := s.Mark(ctx, 0)
	if err != nil {
		return err
	}
	if _, err := s.RecordEntry(ctx, entryStep(seq)); err != nil {
		return err
	}
	return s.WaitDurable(ctx, 0, mark)
}

func TestWaitDurable_ServerWithoutAppendOnlyFile_ReturnsAtOnce(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{NoAOF: true})
	s := open(t, server.URI(), "nolog", 1)
	mark := markOf(t, s)
	if err := recordDurably(t.Context(), s, 0); err != nil {
		t.Fatalf("a server without an append-only file: %v; want no wait", err)
	}
	restart(t, server, s)
	if err := s.WaitDurable(t.Context(), 0, mark); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("WaitDurable after a crash = %v; want %v", err, store.ErrRolledBack)
	}
}

func TestWaitDurable_ConcurrentCallers_ShareRequestsToTheServer(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "shared", 1)
	mark := markOf(t, s)
	const waiters = 1000
	var group sync.WaitGroup
	began := time.Now()
	for range waiters {
		group.Go(func() {
			if err := s.WaitDurable(t.Context(), 0, mark); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	most := 2 + float64(time.Since(began)/observationGap)
	if made := counterValue(t, s.observers[0].metrics.observations); made > most {
		t.Errorf("%d waiters needed %v observations in %v; want %v at most", waiters, made, time.Since(began), most)
	}
}

func TestWaiterConsider_SequenceOfObservations_ReportsDurabilityOrRollback(t *testing.T) {
	t.Parallel()
	log := func(written, appended int64, r rewrites) observation {
		return observation{epoch: "e", confirmed: true, logging: true, written: written, appended: appended, rewrites: r}
	}
	behind := func(o observation) observation {
		o.confirmed = false
		return o
	}
	var before, after rewrites
	after.base = 10
	for _, test := range []struct {
		name string
		seen []observation
		want []bool
	}{
		{
			name: "with an empty buffer, effects are durable at once",
			seen: []observation{log(100, 100, before)}, want: []bool{true},
		},
		{
			name: "effects are durable once the buffer of the first observation is written, regardless of later writes",
			seen: []observation{log(100, 150, before), log(149, 200, before), log(150, 300, before)},
			want: []bool{false, false, true},
		},
		{
			name: "after a rewrite, the length of the previous file does not count",
			seen: []observation{log(100, 150, before), log(180, 260, after), log(259, 260, after), log(260, 260, after)},
			want: []bool{false, false, false, true},
		},
		{
			name: "a shorter file means that the server has rewritten the file",
			seen: []observation{log(100, 150, before), log(20, 30, before), log(29, 40, before), log(30, 40, before)},
			want: []bool{false, false, false, true},
		},
		{
			name: "if the server disables its append-only file, the wait for the disk ends",
			seen: []observation{log(100, 150, before), {epoch: "e", confirmed: true}}, want: []bool{false, true},
		},
		{
			name: "written effects are durable once all replicas have received them",
			seen: []observation{behind(log(100, 100, before)), behind(log(120, 120, before)), log(130, 130, before)},
			want: []bool{false, false, true},
		},
		{
			name: "the replicas and the file may catch up in different observations",
			seen: []observation{log(100, 150, before), behind(log(150, 160, before))}, want: []bool{false, true},
		},
		{
			name: "without an append-only file, the waiter still waits for the replicas",
			seen: []observation{{epoch: "e"}, {epoch: "e", confirmed: true}}, want: []bool{false, true},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := &waiter{epoch: "e"}
			for i, seen := range test.seen {
				if got, err := w.consider(seen); got != test.want[i] || err != nil {
					t.Fatalf("observation %d: durable = %t, %v; want %t", i, got, err, test.want[i])
				}
			}
			other := test.seen[0]
			other.epoch = "another"
			if _, err := w.consider(other); !errors.Is(err, store.ErrRolledBack) {
				t.Errorf("the observation of another process: %v; want %v", err, store.ErrRolledBack)
			}
		})
	}
}

func TestParseObservation_ReadsTheINFOReply(t *testing.T) {
	t.Parallel()
	const server = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n"
	const persistence = "# Persistence\r\naof_enabled:1\r\naof_rewrite_in_progress:1\r\naof_rewrites:3\r\n" +
		"aof_current_size:1000\r\naof_base_size:90\r\naof_buffer_length:24\r\n"
	for _, test := range []struct {
		name                             string
		server, persistence, replication string
		want                             observation
		fails                            string
	}{
		{
			name: "a server with an append-only file", server: server, persistence: persistence,
			want: observation{
				epoch: "abc", logging: true, rewrites: rewrites{count: 3, running: 1, base: 90},
				written: 1000, appended: 1024,
			},
		},
		{
			name: "a server without an append-only file", server: server, persistence: "aof_enabled:0\r\n",
			want: observation{epoch: "abc"},
		},
		{
			name: "a primary with replicas", server: server, persistence: "aof_enabled:0\r\n",
			replication: "role:master\r\nconnected_slaves:3\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0\r\n" +
				"slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0\r\nslave2:ip=10.0.0.4,port=6379,state=online,offset=14,lag=1,type=replica\r\n" +
				"slave_read_repl_offset:7\r\nmaster_replid:new\r\nmaster_replid2:old\r\nmaster_repl_offset:14\r\nsecond_repl_offset:9\r\n",
			want: observation{epoch: "abc/old:9", replicas: 2, history: history{id: "new", offset: 14, parent: "old", forkedAt: 9}},
		},
		{
			name: "a replica with replicas", server: server, persistence: "aof_enabled:0\r\n",
			replication: "role:slave\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0\r\n" +
				"master_replid:new\r\nmaster_replid2:0\r\nmaster_repl_offset:14\r\nsecond_repl_offset:-1\r\n",
			want: observation{epoch: "abc/0:-1/replica", history: history{id: "new", offset: 14, parent: "0", forkedAt: -1}},
		},
		{name: "no run_id", server: "# Server\r\n", persistence: persistence, fails: "run_id"},
		{name: "no aof_enabled", server: server, fails: "aof_enabled"},
		{name: "no size of the append-only file", server: server, persistence: "aof_enabled:1\r\n", fails: "aof_"},
		{
			name: "a size that is not a number", server: server,
			persistence: strings.Replace(persistence, "1000", "1k", 1), fails: "aof_current_size",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseObservation(test.server, test.persistence, test.replication)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Fatalf("error %v; want one that names %s", err, test.fails)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("parseObservation = %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

// slowServer starts a server and delays each of its fsyncs by the given number of milliseconds.
func slowServer(t *testing.T, ms int) *servers.Redis {
	t.Helper()
	compiler, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("no C compiler to make the server's fsync slow with: install gcc")
	}
	if root := os.Getenv("PARKING_REDIS_ROOT"); root != "" {
		t.Skipf("the server under %s is of another system than the compiler", root)
	}
	dir := t.TempDir()
	library := filepath.Join(dir, "slowfsync.so")
	if out, err := exec.Command(compiler, "-shared", "-fPIC", "-o", library, "testdata/slowfsync.c").CombinedOutput(); err != nil {
		t.Fatalf("compile slowfsync.c: %v\n%s", err, out)
	}
	program := os.Getenv("PARKING_REDIS_SERVER")
	if program == "" {
		program = "redis-server"
	}
	wrapper := filepath.Join(dir, "slow-redis-server")
	script := fmt.Sprintf("#!/bin/sh\nLD_PRELOAD=%s SLOW_FSYNC_MS=%d exec %s \"$@\"\n", library, ms, program)
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return servers.NewRedis(t, servers.RedisOptions{Server: wrapper})
}

// restart kills the server, starts it again, and waits until the store can reach it.
func restart(t *testing.T, server *servers.Redis, s *Store) {
	t.Helper()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the server has loaded its data", func() bool { return s.Ping(t.Context()) == nil })
}

const testRun = "00000000test0"

func testOrigin(seq int64) store.Origin {
	return store.Origin{ID: event.ID{Run: testRun, Seq: seq}.String(), Run: testRun, Seq: seq}
}

func entryStep(seq int64) store.EntryStep {
	return store.EntryStep{
		Origin: testOrigin(seq), Plate: fmt.Sprint("P", seq), MaxStay: time.Hour,
		At: time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC),
	}
}

// seen reports whether the ledger shows that an event has taken effect.
func seen(t *testing.T, s *Store, seq int64) bool {
	t.Helper()
	chunk, err := s.Chunk(t.Context(), store.Run{Run: testRun}, seq/store.ChunkBits)
	if err != nil {
		t.Fatal(err)
	}
	bit := seq % store.ChunkBits
	return int64(len(chunk.Seen)) > bit/8 && chunk.Seen[bit/8]&(0x80>>(bit%8)) != 0
}

func markOf(t *testing.T, s *Store) store.Mark {
	t.Helper()
	mark, err := s.Mark(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return mark
}

func countsOf(t *testing.T, s *Store) store.Counts {
	t.Helper()
	counts, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

// record records an entry and fails the test if the result is not the expected one.
func record(t *testing.T, s *Store, seq int64, want store.Result) {
	t.Helper()
	if got, err := s.RecordEntry(t.Context(), entryStep(seq)); err != nil || got != want {
		t.Fatalf("RecordEntry(%d) = %q, %v; want %q", seq, got, err, want)
	}
}
