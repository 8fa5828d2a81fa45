package redis

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// synced configures a store with one partition, in which an event counts as durable only when it is on disk.
var synced = Config{Simulation: "synced", Partitions: 1, Durability: plan.DurabilitySynced}

// With appendfsync everysec, a write must be durable within plan.Durability.Latency, without a warning. The test only
// logs a higher latency, because the machine may be busy.
func TestWaitDurable_Synced_StepsBecomeDurableWithoutWarnings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// timeouts is the query of the URI.
		timeouts string
	}{
		{"with the default timeouts", ""},
		{"with a read timeout of 500 ms", "?read_timeout=500ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			requireWAITAOF(t, p.primary)
			log := &lines{}
			s := openWith(t, synced, Dependencies{
				Binding: exactSource(t, p.servers[0].URI()+test.timeouts), Logger: slog.New(slog.NewTextHandler(log, nil)),
			})
			settled(t, s)
			var sum, most time.Duration
			const steps = 10
			for seq := range int64(steps) {
				began := time.Now()
				noError(t, recordDurably(t.Context(), s, seq+1))
				took := time.Since(began)
				sum, most = sum+took, max(most, took)
			}
			t.Logf("a step was durable after %s on average, and after %s at most", sum/steps, most)
			for _, line := range log.containing("level=WARN") {
				if !strings.Contains(line, "min-replicas-to-write") {
					t.Errorf("logged %q", line)
				}
			}
		})
	}
}

// The timeout must exceed the time that a slow replica needs to flush its writes. Otherwise, every wait for durability
// would time out.
func TestBarrier_Timeout_GrowsWithTheLag(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		durability             plan.Durability
		readTimeout, lag, want time.Duration
	}{
		{plan.DurabilityWritten, 3 * time.Second, 0, time.Second},
		{plan.DurabilityWritten, 3 * time.Second, time.Hour, time.Second},
		{plan.DurabilityWritten, time.Second, 0, 500 * time.Millisecond},
		{plan.DurabilityWritten, 0, 0, time.Second},
		{plan.DurabilitySynced, 3 * time.Second, 0, syncTimeout},
		{plan.DurabilitySynced, time.Millisecond, 0, syncTimeout},
		{plan.DurabilitySynced, 3 * time.Second, 7 * time.Second, 7 * time.Second},
		{plan.DurabilitySynced, 3 * time.Second, time.Hour, maxSyncTimeout},
	} {
		if got := (barrier{test.durability}).timeout(test.readTimeout, test.lag); got != test.want {
			t.Errorf("%+v: the timeout is %s", test, got)
		}
	}
}

func TestBarrierIsPassed_ReplyOfTheServer_IsTrueOnlyIfAllServersConfirm(t *testing.T) {
	t.Parallel()
	reply := func(local, replicas int64) []any { return []any{local, replicas} }
	for _, test := range []struct {
		durability plan.Durability
		reply      any
		replicas   int
		want       bool
	}{
		{plan.DurabilityWritten, nil, 0, true},
		{plan.DurabilityWritten, nil, 1, false},
		{plan.DurabilityWritten, int64(1), 2, false},
		{plan.DurabilityWritten, int64(2), 2, true},
		{plan.DurabilityWritten, int64(2), 1, true},
		{plan.DurabilitySynced, nil, 0, false},
		{plan.DurabilitySynced, reply(0, 0), 0, false},
		{plan.DurabilitySynced, reply(1, 0), 0, true},
		{plan.DurabilitySynced, reply(0, 2), 2, false},
		{plan.DurabilitySynced, reply(1, 1), 2, false},
		{plan.DurabilitySynced, reply(1, 2), 2, true},
	} {
		if got := (barrier{test.durability}).isPassed(test.reply, test.replicas); got != test.want {
			t.Errorf("%+v: isPassed = %t", test, got)
		}
	}
}

// Observers occupy connections almost all the time, so they must not take connections away from steps.
func TestRedisStore_Synced_ObserversDoNotBlockSteps(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	requireWAITAOF(t, c.Admins[0])
	config := synced
	config.Partitions = 16
	s := openWith(t, config, Dependencies{Binding: exactSource(t, c.URI(0)+"&pool_size=1&pipeline_pool_size=1&read_timeout=20s&pool_timeout=1s")})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, config.Partitions)
	for partition := range config.Partitions {
		go func() {
			mark, err := s.Mark(ctx, partition)
			if err == nil {
				err = s.WaitDurable(ctx, partition, mark)
			}
			done <- err
		}()
	}
	for range config.Partitions {
		noError(t, <-done)
	}
}

func TestWaitDurable_SyncedReplicaHasNoAppendOnlyFile_WarningSaysWhatToCheck(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	requireWAITAOF(t, p.primary)
	noError(t, p.replica.ConfigSet(t.Context(), "appendonly", "no").Err())
	log := &lines{}
	s := openWith(t, synced, Dependencies{Binding: source(t, p.servers[0].URI()), Logger: slog.New(slog.NewTextHandler(log, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- recordDurably(ctx, s, 0) }()
	const want = "the primary and its 1 connected replicas have not all flushed the latest writes to disk: check that every replica has appendonly yes"
	polltest.Until(t, "a warning is logged", func() bool { return len(log.containing(want)) > 0 })
	select {
	case err := <-waited:
		t.Fatalf("the step counts as durable although the replica has no append-only file: %v", err)
	default:
	}
	noError(t, p.replica.ConfigSet(t.Context(), "appendonly", "yes").Err())
	noError(t, <-waited)
	const again = "All servers of the store confirm writes again"
	polltest.Until(t, "the end of the delay is logged", func() bool { return len(log.containing(again)) > 0 })
}

func TestStoreCheck_ServerCannotSync_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	t.Run("the server is too old", func(t *testing.T) {
		t.Parallel()
		server := servers.NewRedis(t, servers.RedisOptions{})
		if servers.HasWAITAOF(t, client(t, server.URI())) {
			t.Skip("the server has the command WAITAOF")
		}
		checkSynced(t, server.URI(), "Redis "+server.Version()+" lacks the command WAITAOF, which redis.durability Synced needs: "+
			"use Redis 7.2 or later or Valkey, or set redis.durability to Written")
	})
	t.Run("the server has no append-only file", func(t *testing.T) {
		t.Parallel()
		server := servers.NewRedis(t, servers.RedisOptions{NoAOF: true})
		requireWAITAOF(t, client(t, server.URI()))
		checkSynced(t, server.URI(), "the server has no append-only file: set appendonly yes, or set redis.durability to Written")
	})
	t.Run("the user lacks the permission", func(t *testing.T) {
		t.Parallel()
		server := servers.NewRedis(t, servers.RedisOptions{})
		admin := client(t, server.URI())
		requireWAITAOF(t, admin)
		noError(t, admin.Do(t.Context(), "ACL", "SETUSER", "parking", "on", ">s3cr3t", "~parking:*", "+@all", "-waitaof").Err())
		checkSynced(t, withUser(t, server.URI(), "parking", "s3cr3t"), "the user lacks the permissions +waitaof: grant them with ACL SETUSER")
	})
	t.Run("the server can sync", func(t *testing.T) {
		t.Parallel()
		server := servers.NewRedis(t, servers.RedisOptions{})
		requireWAITAOF(t, client(t, server.URI()))
		checkSynced(t, server.URI(), "")
	})
}

// checkSynced calls the method Check of a store. The error must contain the given text. If the text is "", there must
// be no error.
func checkSynced(t *testing.T, uri, want string) {
	t.Helper()
	switch err := openWith(t, synced, Dependencies{Binding: source(t, uri)}).Check(t.Context()); {
	case want == "":
		noError(t, err)
	case err == nil || !strings.Contains(err.Error(), want):
		t.Errorf("Check: %v; want %q", err, want)
	default:
		t.Log(err)
	}
}
