package redis

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/outage"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The promoted replica lacks the latest writes of the killed primary. If the store does not wait for the replica,
// durable effects are lost, and the store must detect the loss.
func TestFailover_PrimaryIsKilled_PromotedReplicaHasAllDurableEffects(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// config contains additional settings of the primary.
		config         []string
		ignoreReplicas bool
		// fail prevents the replica from receiving further writes of the primary.
		fail  func(*link)
		loses bool
	}{
		{name: "waits for a replica that receives nothing", fail: (*link).stall},
		{name: "waits for a replica that receives nothing, without an append-only file", fail: (*link).stall, config: []string{"appendonly no"}},
		{name: "does not wait for the replica", fail: (*link).stall, ignoreReplicas: true, loses: true},
		{name: "does not wait for the replica, without an append-only file", fail: (*link).stall, config: []string{"appendonly no"}, ignoreReplicas: true, loses: true},
		{name: "cannot wait for a replica that is not connected", fail: (*link).cut, loses: true},
		{name: "requires a connected replica", fail: (*link).cut, config: []string{"min-replicas-to-write 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, test.config...)
			s := openWith(t, Config{Simulation: "pair", Partitions: 1}, Dependencies{Binding: p.binding(t)})
			s.ignoreReplicas = test.ignoreReplicas
			settled(t, s)
			w := &workers{}
			w.next.Store(1) // settled has already used the sequence number 0
			w.start(t, s, 16)
			w.awaitSteps(t, 100)

			test.fail(p.link)
			// The test needs a write that the replica does not receive. All running workers may be waiting for earlier
			// writes to become durable, so start one more worker.
			w.start(t, s, 1)
			if test.loses {
				w.awaitSteps(t, 100)
			} else {
				polltest.Until(t, "no step becomes durable", func() bool {
					return p.isStuck(t, s)
				})
			}
			p.failOver(t)
			w.awaitSteps(t, 100)
			steps := w.stop()

			missing := missingSteps(t, s, steps)
			recorded := countsOf(t, s).EntriesRecorded
			lostAt := datasetOf(t, s).LostAt
			t.Logf("%d steps, %d recorded, %d lost", steps, recorded, missing)
			if test.loses {
				if missing == 0 || lostAt.IsZero() {
					t.Errorf("%d of %d steps are lost, and a loss was detected at %v; want a loss and its time", missing, steps, lostAt)
				}
				return
			}
			if missing > 0 || recorded != steps || !lostAt.IsZero() {
				t.Errorf("%d of %d steps are lost, %d were recorded, and a loss was detected at %v; want every step once, and no loss",
					missing, steps, recorded, lostAt)
			}
		})
	}
}

// The promoted replica is killed before the effects are on its disk. A kill loses no data that the kernel holds, so the
// test truncates the append-only file.
func TestFailover_PromotedReplicaIsKilled_LosesOnlyEffectsThatAreNotOnDisk(t *testing.T) {
	t.Parallel()
	for _, test := range powerFailures {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			s := test.open(t, p.primary, p.binding(t))
			w := &workers{}
			w.next.Store(1) // settled() has already used the sequence number 0
			w.start(t, s, 16)
			w.awaitSteps(t, 32)

			stopSyncing(t, p.replica)
			onDisk := logOf(t, p.servers[1], p.replica)
			test.performWithoutDisk(t, s, w, p.replica)
			noError(t, p.servers[0].Kill())
			noError(t, p.replica.ReplicaOf(t.Context(), "NO", "ONE").Err())
			noError(t, p.replica.ConfigSet(t.Context(), "appendfsync", "everysec").Err())
			// Save the promotion in the configuration file. Otherwise the server would restart as a replica.
			noError(t, p.replica.ConfigRewrite(t.Context()).Err())
			noError(t, p.servers[1].Kill())
			onDisk.restore(t)
			noError(t, p.servers[1].Start(t.Context()))
			if mark := p.replica.HGet(t.Context(), s.partitions[0].key(keyLedger), fieldDataset).Val(); mark == "" {
				t.Fatal("the promoted replica has lost the mark; the test needs a loss after which the mark still exists")
			}
			p.current.Store(p.servers[1])
			w.awaitSteps(t, 32)
			test.check(t, s, w.stop())
		})
	}
}

// TestWaitDurable_PowerFailure_LosesOnlyEffectsThatAreNotOnDisk kills a single server and removes the end of its
// append-only file, which the server has not flushed to disk.
func TestWaitDurable_PowerFailure_LosesOnlyEffectsThatAreNotOnDisk(t *testing.T) {
	t.Parallel()
	for _, test := range powerFailures {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := servers.NewRedis(t, servers.RedisOptions{})
			admin := client(t, server.URI())
			s := test.open(t, admin, source(t, server.URI()))
			w := &workers{}
			w.next.Store(1) // settled() has already used the sequence number 0
			w.start(t, s, 16)
			w.awaitSteps(t, 32)

			stopSyncing(t, admin)
			onDisk := logOf(t, server, admin)
			test.performWithoutDisk(t, s, w, admin)
			noError(t, server.Kill())
			onDisk.restore(t)
			noError(t, server.Start(t.Context()))
			w.awaitSteps(t, 32)
			test.check(t, s, w.stop())
		})
	}
}

// powerFailure is a case of the tests that simulate a power failure. These tests remove the effects that a server has
// not flushed to disk.
type powerFailure struct {
	name       string
	durability plan.Durability
}

var powerFailures = []powerFailure{
	{"Written: the loss is detected", plan.DurabilityWritten},
	{"Synced: nothing is lost", plan.DurabilitySynced},
}

// open opens a store and waits until its mark (see the type dataset) is durable. It skips the test if the server does
// not support the tested durability.
func (f powerFailure) open(t *testing.T, admin *goredis.Client, binding binding.Source) *Store {
	t.Helper()
	if f.durability == plan.DurabilitySynced {
		requireWAITAOF(t, admin)
	}
	s := openWith(t, Config{Simulation: "power", Partitions: 1, Durability: f.durability}, Dependencies{Binding: binding})
	settled(t, s)
	return s
}

// performWithoutDisk waits until the server has executed operations without flushing them to disk. With
// DurabilityWritten, these operations become durable. With DurabilitySynced, they never do, so every worker blocks.
func (f powerFailure) performWithoutDisk(t *testing.T, s *Store, w *workers, server *goredis.Client) {
	t.Helper()
	if f.durability == plan.DurabilityWritten {
		w.awaitSteps(t, 200)
		return
	}
	key := s.partitions[0].key(keyLedger)
	onDisk := server.HGet(t.Context(), key, "entries").Val()
	w.start(t, s, 1) // start another worker, because all others may be waiting for the disk
	polltest.Until(t, "the server has executed a step that is not on its disk", func() bool {
		return server.HGet(t.Context(), key, "entries").Val() != onDisk
	})
}

// check checks the steps after a power failure. With the durability Written, the store must have noticed a loss. With
// Synced, nothing may be lost.
func (f powerFailure) check(t *testing.T, s *Store, steps int64) {
	t.Helper()
	missing, recorded, lostAt := missingSteps(t, s, steps), countsOf(t, s).EntriesRecorded, datasetOf(t, s).LostAt
	t.Logf("%d steps, %d recorded, %d lost", steps, recorded, missing)
	switch {
	case f.durability == plan.DurabilityWritten && (missing == 0 || lostAt.IsZero()):
		t.Errorf("%d of %d steps are lost, and a loss was detected at %v; want a loss and its time", missing, steps, lostAt)
	case f.durability == plan.DurabilitySynced && (missing > 0 || recorded != steps || !lostAt.IsZero()):
		t.Errorf("%d of %d steps are lost, %d were recorded, and a loss was detected at %v; want every step once, and no loss",
			missing, steps, recorded, lostAt)
	}
}

// stopSyncing makes the server write its append-only file without flushing it to disk.
func stopSyncing(t *testing.T, admin *goredis.Client) {
	t.Helper()
	noError(t, admin.ConfigSet(t.Context(), "appendfsync", "no").Err())
}

// requireWAITAOF skips the test if the server does not have the command WAITAOF.
func requireWAITAOF(t testing.TB, admin *goredis.Client) {
	t.Helper()
	if !servers.HasWAITAOF(t, admin) {
		t.Skip("the server has no command WAITAOF: set PARKING_REDIS_ROOT to a system with Redis 7.2 or later, or Valkey")
	}
}

// logFile is the part of an append-only file to which the server appends its writes (the incremental file).
type logFile struct {
	path string
	size int64 // length of the file when logOf was called
}

// logOf returns the incremental file of the append-only file. During a rewrite, there are two such files, so logOf
// waits for the end of the rewrite.
func logOf(t *testing.T, server *servers.Redis, admin *goredis.Client) logFile {
	t.Helper()
	var parts []string
	polltest.UntilState(t, "the server appends to one file", func() bool {
		info, err := admin.Info(t.Context(), "persistence").Result()
		noError(t, err)
		for _, field := range []string{"aof_rewrite_in_progress", "aof_rewrite_scheduled"} {
			if value, found := infoField(info, field); !found || value != "0" {
				return false
			}
		}
		parts, err = filepath.Glob(filepath.Join(server.Directory(), "data", "appendonlydir", "*.incr.aof"))
		noError(t, err)
		return len(parts) == 1
	}, func() any { return parts })
	info, err := os.Stat(parts[0])
	noError(t, err)
	return logFile{path: parts[0], size: info.Size()}
}

// restore truncates the file to its earlier length, as in a power failure. The server must not be running.
func (l logFile) restore(t *testing.T) {
	t.Helper()
	noError(t, os.Truncate(l.path, l.size))
}

// TestLookAt_OtherClientWritesDuringTheWaitForReplicas_OffsetPrecedesThatWrite checks that the offset of an observation
// excludes writes that the replica has not confirmed. Otherwise, a failover would wrongly count as a loss.
func TestLookAt_OtherClientWritesDuringTheWaitForReplicas_OffsetPrecedesThatWrite(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	s := openWith(t, Config{Simulation: "pair", Partitions: 1}, Dependencies{Binding: p.binding(t)})
	isWaiting := func() bool { return infoOf(t, p.primary, "clients", "blocked_clients") == "1" }
	polltest.Until(t, "a client writes while an observation waits for a slow replica", func() bool {
		noError(t, p.servers[1].Pause())
		ended := make(chan observation, 1)
		go func() {
			seen, err := s.observers[0].look(t.Context(), 1, 0)
			if err != nil {
				t.Error(err)
			}
			ended <- seen
		}()
		for !isWaiting() && len(ended) == 0 {
			runtime.Gosched()
		}
		noError(t, p.primary.Set(t.Context(), "other", "", 0).Err())
		written, err := strconv.ParseInt(infoOf(t, p.primary, "replication", "master_repl_offset"), 10, 64)
		noError(t, err)
		isDuring := isWaiting()
		noError(t, p.servers[1].Resume())
		seen := <-ended
		if isDuring && seen.history.offset >= written {
			t.Fatalf("the offset %d of the observation includes the write at %d", seen.history.offset, written)
		}
		// Repeat the attempt unless the other write came during the wait and the replica confirmed the observation's
		// writes.
		return isDuring && seen.confirmed || t.Failed()
	})
}

// A primary changes its replication ID when its first replica connects, and after the last has left. The store must
// not take the change for a restart.
func TestObserver_ReplicaDisconnectsAndReconnects_CountsNoRestart(t *testing.T) {
	t.Parallel()
	p := newPair(t, "repl-backlog-ttl 1")
	s := openWith(t, Config{Simulation: "pair", Partitions: 1}, Dependencies{Binding: p.binding(t)})
	settled(t, s)
	mark := markOf(t, s)
	for _, change := range []struct {
		what string
		make func() error
	}{
		{"the replica disconnects", p.servers[1].Kill},
		{"the replica connects", func() error { return p.servers[1].Start(t.Context()) }},
	} {
		stream := infoOf(t, p.primary, "replication", "master_replid")
		noError(t, change.make())
		polltest.Until(t, change.what+", and the primary begins a new stream", func() bool {
			return infoOf(t, p.primary, "replication", "master_replid") != stream
		})
		if err := s.WaitDurable(t.Context(), 0, mark); err != nil {
			t.Errorf("%s: %v", change.what, err)
		}
	}
	if n := counterValue(t, s.observers[0].metrics.restarts); n != 0 {
		t.Errorf("%v restarts are counted, want none", n)
	}
}

func infoOf(t *testing.T, c *goredis.Client, section, field string) string {
	t.Helper()
	info, err := c.Info(t.Context(), section).Result()
	noError(t, err)
	value, found := infoField(info, field)
	if !found {
		t.Fatalf("INFO %s has no %s", section, field)
	}
	return value
}

// workers make calls that change the store, and wait until each change is durable.
type workers struct {
	next, durable, repeated atomic.Int64
	stopping                atomic.Bool
	running                 sync.WaitGroup
}

// start starts more workers. Even if the test fails early, they stop before the servers stop.
func (w *workers) start(t *testing.T, s *Store, count int) {
	t.Cleanup(func() { w.stop() })
	for range count {
		w.running.Go(func() {
			for !w.stopping.Load() {
				repeated, err := performDurably(t.Context(), s, w.next.Add(1)-1)
				w.repeated.Add(repeated)
				if t.Context().Err() != nil {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				w.durable.Add(1)
			}
		})
	}
}

// awaitSteps waits until the workers have performed the given number of further steps, and these steps are durable.
func (w *workers) awaitSteps(t *testing.T, steps int64) {
	t.Helper()
	reached := w.durable.Load() + steps
	polltest.Until(t, "steps are durable", func() bool { return w.durable.Load() >= reached || t.Failed() })
}

// stop stops the workers and returns the number of writes, including those that the test itself made earlier.
func (w *workers) stop() int64 {
	w.stopping.Store(true)
	w.running.Wait()
	return w.next.Load()
}

// pair is a primary and its replica. All replication traffic passes through the link.
type pair struct {
	servers          [2]*servers.Redis
	primary, replica *goredis.Client
	link             *link
	// current is the server whose address is in the binding.
	current atomic.Pointer[servers.Redis]
}

func newPair(t testing.TB, config ...string) *pair {
	t.Helper()
	p := &pair{}
	p.servers[0] = servers.NewRedis(t, servers.RedisOptions{Config: append(config, "repl-timeout 3600", "repl-diskless-sync-delay 0")})
	p.primary = client(t, p.servers[0].URI())
	p.link = newLink(t, hostOf(t, p.servers[0]))
	host, port, err := net.SplitHostPort(p.link.listener.Addr().String())
	noError(t, err)
	p.servers[1] = servers.NewRedis(t, servers.RedisOptions{Config: []string{
		"repl-timeout 3600", fmt.Sprintf("masterauth %q", password(t, p.servers[0].URI())), "replicaof " + host + " " + port,
	}})
	p.replica = client(t, p.servers[1].URI())
	p.current.Store(p.servers[0])
	polltest.Until(t, "the replica is in sync", func() bool {
		info, err := p.primary.Info(t.Context(), "replication").Result()
		return err == nil && onlineReplicas(info) == 1
	})
	return p
}

func hostOf(t testing.TB, server *servers.Redis) string {
	t.Helper()
	u, err := url.Parse(server.String())
	noError(t, err)
	return u.Host
}

// binding returns a source of bindings. Each binding refers to the server in p.current at the time of the call.
func (p *pair) binding(t *testing.T) binding.Source {
	return func() (binding.Binding, error) { return source(t, p.current.Load().URI())() }
}

// isStuck reports whether no step can become durable. Either the primary rejects steps, or the latest observation of
// the primary shows effects that the replica has not received.
func (p *pair) isStuck(t *testing.T, s *Store) bool {
	t.Helper()
	if p.primary.Set(t.Context(), "probe", "", 0).Err() != nil {
		return true
	}
	received, err := p.replica.HGet(t.Context(), s.partitions[0].key(keyLedger), "entries").Int64()
	noError(t, err)
	return received < s.observers[0].latest.Load().data.effects
}

// failOver kills the primary and promotes the replica.
func (p *pair) failOver(t *testing.T) {
	t.Helper()
	noError(t, p.servers[0].Kill())
	noError(t, p.replica.ReplicaOf(t.Context(), "NO", "ONE").Err())
	p.current.Store(p.servers[1])
}

// link is a TCP proxy between a replica and its primary.
type link struct {
	listener net.Listener
	primary  string

	mu          sync.Mutex
	connections []net.Conn
	stalled     atomic.Bool
	running     sync.WaitGroup
}

func newLink(t testing.TB, primary string) *link {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	noError(t, err)
	l := &link{listener: listener, primary: primary}
	l.running.Go(l.accept)
	t.Cleanup(func() {
		l.cut()
		l.running.Wait()
	})
	return l
}

// stall discards what the primary sends from now on. Connections stay open.
func (l *link) stall() { l.stalled.Store(true) }

// cut closes all connections, and prevents new connections.
func (l *link) cut() {
	_ = l.listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, connection := range l.connections {
		_ = connection.Close()
	}
}

func (l *link) accept() {
	for {
		replica, err := l.listener.Accept()
		if err != nil {
			return
		}
		primary, err := net.Dial("tcp", l.primary)
		if err != nil {
			_ = replica.Close()
			continue
		}
		l.mu.Lock()
		l.connections = append(l.connections, replica, primary)
		l.mu.Unlock()
		l.running.Go(func() { l.forward(primary, replica, &atomic.Bool{}) })
		l.running.Go(func() { l.forward(replica, primary, &l.stalled) })
	}
}

// forward copies data until one of the connections is closed. It then closes the other connection.
func (l *link) forward(to, from net.Conn, discard *atomic.Bool) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if discard.Load() {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestObserver_ReplicasLagForLong_LogsOneWarning(t *testing.T) {
	t.Parallel()
	log := &lines{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	o := &observer{logger: logger, lagging: outage.New(logger, "lagging", "all have caught up"), part: "observation 0"}
	lagging := observation{replicas: 1}
	o.reportReplicas(0, lagging)
	o.reportReplicas(1, lagging)
	if got := log.containing("level=WARN"); len(got) > 0 {
		t.Fatalf("logged %q at once", got)
	}
	o.lagged = o.lagged.Add(-time.Minute)
	o.reportReplicas(1, lagging)
	if got := log.containing("level=WARN"); len(got) != 1 || !strings.Contains(got[0], "lagging") || !strings.Contains(got[0], "the 1 connected replicas") {
		t.Errorf("logged %q; want one warning", got)
	}
	o.reportReplicas(1, observation{replicas: 1, confirmed: true})
	if !o.lagged.IsZero() {
		t.Error("the replicas still count as lagging although they have confirmed the writes")
	}
}

// missingSteps returns how many steps with the sequence numbers 0 to steps-1 have no effect in the store.
func missingSteps(t *testing.T, s *Store, steps int64) (missing int) {
	t.Helper()
	for seq := range steps {
		if !seen(t, s, seq) {
			missing++
		}
	}
	return missing
}
