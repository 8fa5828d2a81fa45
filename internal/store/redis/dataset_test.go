package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/test/servers"
)

// lines collects log lines in memory.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// containing returns the log lines that contain the given text.
func (l *lines) containing(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// openLogged opens a store. It also returns the lines that the store logs.
func openLogged(t *testing.T, uri string, partitions int) (*Store, *lines) {
	t.Helper()
	log := &lines{}
	return openWith(t, Config{Simulation: "logged", Partitions: partitions}, Dependencies{
		Binding: source(t, uri), Logger: slog.New(slog.NewTextHandler(log, nil)),
	}), log
}

// settled records an event, and waits until the mark of the dataset is durable. From then on, the store can detect a
// loss.
func settled(t *testing.T, s *Store) {
	t.Helper()
	noError(t, recordDurably(t.Context(), s, 0))
	mark := markOf(t, s)
	polltest.Until(t, "the mark is durable", func() bool {
		noError(t, s.WaitDurable(t.Context(), 0, mark))
		d := s.observers[0].dataset
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.durable
	})
}

func datasetOf(t *testing.T, s *Store) store.Dataset {
	t.Helper()
	d, err := s.Dataset(t.Context())
	noError(t, err)
	return d
}

func TestDataset_Loss_IsDetectedAndRecorded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		options servers.RedisOptions
		lose    func(*testing.T, *servers.Redis, *Store, *goredis.Client)
	}{
		{
			name: "FLUSHALL",
			lose: func(t *testing.T, _ *servers.Redis, _ *Store, c *goredis.Client) {
				noError(t, c.FlushAll(t.Context()).Err())
			},
		},
		{
			name: "restart without a snapshot", options: servers.RedisOptions{NoAOF: true},
			lose: func(t *testing.T, r *servers.Redis, s *Store, _ *goredis.Client) { restart(t, r, s) },
		},
		{
			name: "restart from an older snapshot", options: servers.RedisOptions{NoAOF: true},
			lose: func(t *testing.T, r *servers.Redis, s *Store, c *goredis.Client) {
				noError(t, c.Save(t.Context()).Err())
				noError(t, recordDurably(t.Context(), s, 1))
				noError(t, s.WaitDurable(t.Context(), 0, markOf(t, s)))
				restart(t, r, s)
			},
		},
		{
			name: "failure of the machine before the latest effects are on disk",
			lose: func(t *testing.T, r *servers.Redis, s *Store, c *goredis.Client) {
				onDisk := logOf(t, r, c)
				noError(t, recordDurably(t.Context(), s, 1))
				noError(t, s.WaitDurable(t.Context(), 0, markOf(t, s)))
				noError(t, r.Kill())
				onDisk.restore(t)
				restart(t, r, s)
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := servers.NewRedis(t, test.options)
			s, log := openLogged(t, server.URI(), 2)
			settled(t, s)
			if d := datasetOf(t, s); d.Partitions != 2 || !d.LostAt.IsZero() {
				t.Fatalf("Dataset = %+v before anything was lost", d)
			}
			test.lose(t, server, s, client(t, server.URI()))
			if err := s.WaitDurable(t.Context(), 0, markOf(t, s)); err != nil && !errors.Is(err, store.ErrRolledBack) {
				t.Fatal(err)
			}

			auditor := open(t, server.URI(), "logged", 2)
			if d := datasetOf(t, auditor); d.Partitions != 2 || d.LostAt.IsZero() {
				t.Errorf("Dataset of another process = %+v; want 2 partitions and a loss", d)
			}
			if got := log.containing("The store lost data"); len(got) != 1 {
				t.Errorf("logged %q, want one line about the loss", got)
			}
			if n := counterValue(t, s.observers[0].metrics.losses); n != 1 {
				t.Errorf("%v losses are counted, want 1", n)
			}
		})
	}
}

func TestDataset_LossBetweenObservations_IsDetected(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "unseen", 1)
	settled(t, s)
	noError(t, client(t, server.URI()).FlushAll(t.Context()).Err())
	if d := datasetOf(t, s); d.LostAt.IsZero() {
		t.Errorf("Dataset = %+v; want a loss", d)
	}
}

// The server loses the mark of the dataset before it is durable, restarts without a loss, and is purged. None of this
// loses durable data.
func TestDataset_LossOfNonDurableData_IsIgnored(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s, log := openLogged(t, server.URI(), 1)
	markOf(t, s)
	noError(t, client(t, server.URI()).FlushAll(t.Context()).Err())
	settled(t, s)
	restart(t, server, s)
	if err := s.WaitDurable(t.Context(), 0, markOf(t, s)); err != nil && !errors.Is(err, store.ErrRolledBack) {
		t.Fatal(err)
	}
	noError(t, s.Purge(t.Context()))
	settled(t, s)
	if d := datasetOf(t, s); !d.LostAt.IsZero() || d.Partitions != 1 {
		t.Errorf("Dataset = %+v; want 1 partition and no loss", d)
	}
	if got := log.containing("lost data"); len(got) > 0 {
		t.Errorf("logged %q; want no message about a loss", got)
	}
}

func TestStoreMark_OtherNumberOfPartitions_Fails(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	settled(t, open(t, server.URI(), "partitions", 4))
	for _, partitions := range []int{1, 2, 5} {
		s := open(t, server.URI(), "partitions", partitions)
		if _, err := s.Mark(t.Context(), 0); !errors.Is(err, store.ErrOtherPartitions) || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "use 4") {
			t.Errorf("Mark with %d partitions: %v; want %v", partitions, err, store.ErrOtherPartitions)
		}
		if d := datasetOf(t, s); d.Partitions != 4 {
			t.Errorf("Dataset = %+v; want 4 partitions", d)
		}
	}
	markOf(t, open(t, server.URI(), "partitions", 4))
}

func TestRedisSettings_UnsafeSetting_IsLoggedOnce(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{NoAOF: true, Config: []string{
		"maxmemory-policy allkeys-lru", "user parking on >x ~* +@all -config", // managed Redis services reject CONFIG
	}})
	s, log := openLogged(t, withUser(t, server.URI(), "parking", "x"), 1)
	markOf(t, s)
	restart(t, server, s)
	polltest.Until(t, "the restart is noticed", func() bool {
		_ = s.WaitDurable(t.Context(), 0, markOf(t, s)) // makes the store notice the restart
		return counterValue(t, s.observers[0].metrics.restarts) > 0
	})
	for _, want := range []string{"setting=appendonly is=no set_to=yes", "setting=maxmemory-policy is=allkeys-lru set_to=noeviction"} {
		if got := log.containing(want); len(got) != 1 || !strings.Contains(got[0], "level=WARN") {
			t.Errorf("logged %q; want one warning of %s", got, want)
		}
	}

	sound := servers.NewRedis(t, servers.RedisOptions{})
	s, log = openLogged(t, sound.URI(), 1)
	markOf(t, s)
	if got := log.containing("level="); len(got) > 0 {
		t.Errorf("logged %q; want nothing, because the settings of the server are safe", got)
	}
}

func TestRedisSettings_PrimaryWithReplica_WarnsUnlessMinReplicasToWriteIsSet(t *testing.T) {
	t.Parallel()
	for required, want := range map[string]int{"0": 1, "1": 0} {
		p := newPair(t, "min-replicas-to-write "+required)
		s, log := openLogged(t, p.servers[0].URI(), 1)
		markOf(t, s)
		if got := log.containing("level=WARN"); len(got) != want || want > 0 && !strings.Contains(got[0], "setting=min-replicas-to-write is=0 set_to=1") {
			t.Errorf("with min-replicas-to-write %s, logged %q; want %d warnings", required, got, want)
		}
	}
}

func TestRedisSettings_FirstReplicaConnects_WarnsThatMinReplicasToWriteIsZero(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	noError(t, p.replica.ReplicaOf(t.Context(), "NO", "ONE").Err())
	polltest.Until(t, "the primary has no replica", func() bool {
		return infoOf(t, p.primary, "replication", "connected_slaves") == "0"
	})
	s, log := openLogged(t, p.servers[0].URI(), 1)
	markOf(t, s)
	const warning = "setting=min-replicas-to-write is=0 set_to=1"
	if got := log.containing(warning); len(got) > 0 {
		t.Fatalf("logged %q; want no warning, because the primary has no replica", got)
	}
	host, port, err := net.SplitHostPort(p.link.listener.Addr().String())
	noError(t, err)
	noError(t, p.replica.ReplicaOf(t.Context(), host, port).Err())
	polltest.Until(t, "the replica is in sync", func() bool {
		info, err := p.primary.Info(t.Context(), "replication").Result()
		return err == nil && onlineReplicas(info) == 1
	})
	noError(t, s.WaitDurable(t.Context(), 0, markOf(t, s)))
	if got := log.containing(warning); len(got) != 1 || !strings.Contains(got[0], "level=WARN") {
		t.Errorf("logged %q; want one warning of %s", got, warning)
	}
}

func TestStore_Outage_IsLoggedOnce(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s, log := openLogged(t, server.URI(), 1)
	settled(t, s)
	mark, began := markOf(t, s), time.Now()
	noError(t, server.Kill())
	for range 3 {
		for range writingSteps(t.Context(), s) {
		}
		if err := s.WaitDurable(t.Context(), 0, mark); err == nil {
			t.Fatal("WaitDurable succeeded on a server that is down")
		}
	}
	noError(t, server.Start(t.Context()))
	polltest.Until(t, "the outage is over", func() bool {
		for range writingSteps(t.Context(), s) { // every failed operation must succeed before the outage ends
		}
		_ = s.WaitDurable(t.Context(), 0, mark)
		return len(log.containing("available again")) > 0
	})
	log.checkOneOutage(t, began)
}

func TestStore_WritesFailButWaitDurableSucceeds_OutageContinues(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s, log := openLogged(t, server.URI(), 1)
	settled(t, s)
	admin, began := client(t, server.URI()), time.Now()
	noError(t, admin.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	for range 5 {
		if err := writingSteps(t.Context(), s)["RecordEntry"]; !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("RecordEntry on a replica: %v", err)
		}
		if err := s.WaitDurable(t.Context(), 0, markOf(t, s)); err != nil && !errors.Is(err, store.ErrRolledBack) {
			t.Fatal(err)
		}
	}
	noError(t, admin.ReplicaOf(context.WithoutCancel(t.Context()), "NO", "ONE").Err())
	polltest.Until(t, "the outage is over", func() bool {
		for range writingSteps(t.Context(), s) {
		}
		return len(log.containing("available again")) > 0
	})
	log.checkOneOutage(t, began, "READONLY", "give the address of the primary")
}

func TestStore_OneOperationFails_OutageLastsUntilThisOperationSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// Use a cluster: with a single server, the outage log does not distinguish the partitions in which WaitDurable
		// fails.
		s, server, log := openAnswered(t, "redis://unused?cluster=true", 2)
		awaitEnds := func(step string, want int) {
			t.Helper()
			time.Sleep(10 * time.Second) // an outage ends 5 s after all failed operations have succeeded again
			if got := len(log.containing("available again")); got != want {
				t.Fatalf("%s: %d outages have ended, want %d", step, got, want)
			}
		}
		steps := partSteps(t.Context(), s, server)
		for i, failing := range steps {
			server.isDown.Store(true)
			if err := failing.do(); !errors.Is(err, store.ErrUnavailable) {
				t.Fatalf("%s on a server that is down: %v", failing.name, err)
			}
			server.isDown.Store(false)
			for _, other := range slices.Delete(slices.Clone(steps), i, i+1) {
				noError(t, other.do())
			}
			awaitEnds("all steps except "+failing.name+" work", i)
			noError(t, failing.do())
			awaitEnds(failing.name+" works again", i+1)
		}
	})
}

// All partitions of a single server share one observer. A failure in partition 1 must be logged under the observer's
// name.
func TestStore_WaitDurableFailsInPartition1OfSingleServer_NextSuccessEndsTheOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, server, log := openAnswered(t, "redis://unused", 2)
		wait := func() error { return s.WaitDurable(t.Context(), 1, store.Mark{Epoch: answeringEpoch}) }
		server.isDown.Store(true)
		if err := wait(); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("the server is down: %v", err)
		}
		server.isDown.Store(false)
		noError(t, wait())
		time.Sleep(10 * time.Second) // an outage ends 5 s after all failed operations have succeeded again
		if got := len(log.containing("available again")); got != 1 {
			t.Errorf("%d outages have ended, want 1", got)
		}
	})
}

// partStep is one operation of the store, such as RecordEntry, in one partition.
type partStep struct {
	name string
	do   func() error
}

// partSteps returns every operation that the outage log distinguishes, once per partition. The exception is Lease,
// which always uses partition 0.
func partSteps(ctx context.Context, s *Store, server *answering) (steps []partStep) {
	add := func(name string, do func() error) { steps = append(steps, partStep{name, do}) }
	add("Lease", func() error { _, err := s.Lease(ctx, store.CounterExits, 1); return err })
	for p := range s.partitions {
		entry, exit, claim := entryStep(0), exitStep(0), store.Claim{Partition: p, Run: exitTestRun, Limit: 1}
		entry.Partition, exit.Partition = p, p
		for name, do := range map[string]func() error{
			"RecordEntry":      func() error { _, err := s.RecordEntry(ctx, entry); return err },
			"RecordExit":       func() error { _, err := s.RecordExit(ctx, exit); return err },
			"SettleSummary":    func() error { _, err := s.SettleSummary(ctx, p, exit.Origin.ID); return err },
			"RecordDeadLetter": func() error { return s.RecordDeadLetter(ctx, p, "letter") },
			"WaitDurable":      func() error { return s.WaitDurable(ctx, p, store.Mark{Epoch: answeringEpoch}) },
			"Release":          func() error { return s.Release(ctx, claim, nil) },
			"Confirm": func() error {
				server.script = int64(0)
				_, err := s.Confirm(ctx, store.Confirmation{Partition: p, Run: testRun, Type: event.TypeEntry})
				return err
			},
			"Claim": func() error {
				server.script = []any{}
				_, err := s.Claim(ctx, claim)
				return err
			},
		} {
			add(fmt.Sprintf("%s in partition %d", name, p), do)
		}
	}
	return steps
}

// answering is a go-redis hook that answers commands itself, so that the test needs no server.
type answering struct {
	// isDown is true while all commands fail.
	isDown atomic.Bool
	// script is the reply to every script that the store sends without the batcher.
	script any
}

const answeringEpoch = "epoch"

// openAnswered opens a store without a server, and returns a fake server and the log of the store.
func openAnswered(t *testing.T, uri string, partitions int) (*Store, *answering, *lines) {
	t.Helper()
	server := &answering{}
	s, log := openLogged(t, uri, partitions)
	s.client.AddHook(server)
	for _, o := range s.observers {
		o.look, o.inspect = server.look, func(context.Context) {}
		o.dataset.join = func(context.Context, string, time.Time) (string, error) { return "mark", nil }
	}
	return s, server, log
}

// DialHook implements goredis.Hook. It changes nothing, because the store never connects.
func (*answering) DialHook(next goredis.DialHook) goredis.DialHook { return next }

// ProcessHook implements goredis.Hook.
func (a *answering) ProcessHook(goredis.ProcessHook) goredis.ProcessHook {
	return func(_ context.Context, cmd goredis.Cmder) error { return a.answer(cmd) }
}

// ProcessPipelineHook implements goredis.Hook.
func (a *answering) ProcessPipelineHook(goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(_ context.Context, cmds []goredis.Cmder) error {
		var errs []error
		for _, cmd := range cmds {
			errs = append(errs, a.answer(cmd))
		}
		return errors.Join(errs...)
	}
}

func (a *answering) answer(cmd goredis.Cmder) error {
	switch c := cmd.(type) {
	case *goredis.IntCmd:
		c.SetVal(1)
	case *goredis.StringSliceCmd:
		c.SetVal([]string{duplicate})
	case *goredis.Cmd:
		c.SetVal(a.script)
	}
	cmd.SetErr(a.err())
	return a.err()
}

func (a *answering) look(context.Context, int, time.Duration) (observation, error) {
	return observation{epoch: answeringEpoch, confirmed: true, data: dataState{mark: "mark"}}, a.err()
}

func (a *answering) err() error {
	if a.isDown.Load() {
		return syscall.ECONNREFUSED
	}
	return nil
}

// checkOneOutage checks that the log shows exactly one outage, which has ended. Its first line must contain wants.
func (l *lines) checkOneOutage(t *testing.T, began time.Time, wants ...string) {
	t.Helper()
	got := l.containing("The store is")
	const reminder = 30 * time.Second // the interval at which package outage repeats the warning about an outage
	most := 2 + int(time.Since(began)/reminder)
	if len(got) < 2 || len(got) > most || len(l.containing("available again")) != 1 || !strings.Contains(got[len(got)-1], "available again") {
		t.Fatalf("logged %q, want one outage in at most %d lines", got, most)
	}
	for _, want := range append(wants, "unavailable") {
		if !strings.Contains(got[0], want) {
			t.Errorf("logged %q, want %q in it", got[0], want)
		}
	}
}
