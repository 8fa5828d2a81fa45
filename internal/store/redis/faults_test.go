package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// Faults hit the server while concurrent callers record visits. The callers repeat each step until the step succeeds.
func TestServerFaults_CallersRetry_EachVisitIsRecordedOnce(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name string
		do   func(context.Context, *goredis.Client) error
		// harmless is true if no caller may get an error because of the fault.
		harmless bool
	}{
		{
			name: "SCRIPT FLUSH", harmless: true,
			do: func(ctx context.Context, c *goredis.Client) error { return c.ScriptFlush(ctx).Err() },
		},
		{
			name: "CLIENT KILL of all connections",
			do: func(ctx context.Context, c *goredis.Client) error {
				return c.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes").Err()
			},
		},
		{
			name: "BGREWRITEAOF", harmless: true,
			do: func(ctx context.Context, c *goredis.Client) error {
				err := c.BgRewriteAOF(ctx).Err()
				if err != nil && strings.Contains(err.Error(), "already in progress") {
					return nil
				}
				return err
			},
		},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			server := servers.NewRedis(t, servers.RedisOptions{})
			s := open(t, server.URI(), "faults", 1)
			admin := client(t, server.URI())
			var done, failed atomic.Int64
			const workers, each = 32, 300
			var group sync.WaitGroup
			for w := range int64(workers) {
				group.Go(func() {
					for i := range int64(each) {
						failed.Add(performVisit(t, s, w*each+i))
						done.Add(1)
					}
				})
			}
			faults := 0
			for done.Load() < workers*each {
				if err := fault.do(t.Context(), admin); err != nil {
					t.Error(err)
					break
				}
				faults++
				before := done.Load()
				polltest.Until(t, "some further visits are recorded", func() bool { return done.Load() > before+20 || done.Load() == workers*each })
			}
			group.Wait()
			t.Logf("%d faults, %d calls failed", faults, failed.Load())
			if fault.harmless && failed.Load() > 0 {
				t.Errorf("%d calls failed; want none", failed.Load())
			}
			counts := countsOf(t, s)
			counts.DuplicatesSuppressed = 0
			want := store.Counts{EntriesRecorded: workers * each, Matched: workers * each, SummariesStored: workers * each}
			if counts != want {
				t.Errorf("Counts = %+v; want %+v", counts, want)
			}
		})
	}
}

// performVisit performs the entry, the exit and the summary of a visit, each until it succeeds. It returns the number
// of failures.
func performVisit(t *testing.T, s *Store, seq int64) (failed int64) {
	exit := exitStep(seq)
	for _, step := range []func() error{
		func() error {
			_, err := s.RecordEntry(t.Context(), entryStep(seq))
			return err
		},
		func() error {
			got, err := s.RecordExit(t.Context(), exit)
			if err == nil && got.Result != store.ResultMatched && got.Result != store.ResultPending {
				t.Errorf("exit %d: %s", seq, got.Result)
			}
			return err
		},
		func() error {
			_, err := s.SettleSummary(t.Context(), 0, exit.Origin.ID)
			return err
		},
	} {
		for err := step(); err != nil; err = step() {
			failed++
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("visit %d: %v; want %v", seq, err, store.ErrUnavailable)
				return failed
			}
		}
	}
	return failed
}

const exitTestRun = "00000000test1"

func exitStep(seq int64) store.ExitStep {
	entry := entryStep(seq)
	return store.ExitStep{
		Origin: store.Origin{ID: event.ID{Run: exitTestRun, Seq: seq}.String(), Run: exitTestRun, Seq: seq},
		Plate:  entry.Plate, At: entry.At.Add(time.Minute), Intent: event.IntentMatched,
	}
}

func client(t testing.TB, uri string) *goredis.Client {
	t.Helper()
	o, err := goredis.ParseURL(uri)
	if err != nil {
		t.Fatal("the URI of the test's server cannot be parsed")
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestScripts_ScriptFlush_CausesNoError(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "flush", 1)
	admin := client(t, server.URI())
	now := time.Date(2026, time.May, 17, 12, 0, 0, 0, time.UTC)
	claim := store.Claim{Run: exitTestRun, Token: 1, Limit: 1, Now: now, MaxStay: time.Hour}
	for name, step := range map[string]func() error{
		"Confirm": func() error {
			_, err := s.Confirm(t.Context(), store.Confirmation{Run: testRun, Type: event.TypeEntry})
			return err
		},
		"Claim": func() error {
			_, err := s.Claim(t.Context(), claim)
			return err
		},
		"Release":          func() error { return s.Release(t.Context(), claim, nil) },
		"CountStarved":     func() error { return s.CountStarved(t.Context(), testRun, 1) },
		"RecordDeadLetter": func() error { return s.RecordDeadLetter(t.Context(), 0, "letter") },
	} {
		for range 2 {
			if err := admin.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := step(); err != nil {
				t.Errorf("%s after SCRIPT FLUSH: %v", name, err)
			}
		}
	}
}

// The error must wrap ErrUnavailable and contain the address and advice, but no password. Calls must succeed after
// the repair.
func TestConnect_UnusableServer_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		cause  string
		remedy string
		// parameters is appended to the URI of the store.
		parameters string

		spoil  func(*testing.T, *servers.Redis, *goredis.Client)
		repair func(*testing.T, *servers.Redis, *goredis.Client)
	}{
		{
			name: "the server is down", cause: "connection refused", remedy: "start Redis there",
			spoil: func(t *testing.T, r *servers.Redis, _ *goredis.Client) { noError(t, r.Kill()) },
			repair: func(t *testing.T, r *servers.Redis, _ *goredis.Client) {
				noError(t, r.Start(t.Context()))
			},
		},
		{
			name: "the server hangs", cause: "timeout", remedy: "check that Redis runs there",
			parameters: "?read_timeout=1s&write_timeout=1s&pool_timeout=1s",
			spoil:      func(t *testing.T, r *servers.Redis, _ *goredis.Client) { noError(t, r.Pause()) },
			repair:     func(t *testing.T, r *servers.Redis, _ *goredis.Client) { noError(t, r.Resume()) },
		},
		{
			name: "the memory of the server is full", cause: "OOM", remedy: "raise maxmemory",
			spoil: func(t *testing.T, _ *servers.Redis, c *goredis.Client) {
				noError(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
			},
			repair: func(t *testing.T, _ *servers.Redis, c *goredis.Client) {
				noError(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
			},
		},
		{
			name: "the server is a replica", cause: "READONLY", remedy: "give the address of the primary",
			spoil: func(t *testing.T, _ *servers.Redis, c *goredis.Client) {
				noError(t, c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
			},
			repair: func(t *testing.T, _ *servers.Redis, c *goredis.Client) {
				noError(t, c.ReplicaOf(t.Context(), "NO", "ONE").Err())
			},
		},
		{
			name: "the password of the server has changed", cause: "WRONGPASS", remedy: "correct the user name or password",
			spoil: func(t *testing.T, r *servers.Redis, c *goredis.Client) {
				noError(t, c.ConfigSet(t.Context(), "requirepass", "another").Err())
				noError(t, c.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err())
			},
			repair: func(t *testing.T, r *servers.Redis, c *goredis.Client) {
				noError(t, c.ConfigSet(t.Context(), "requirepass", password(t, r.URI())).Err())
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := servers.NewRedis(t, servers.RedisOptions{})
			s := open(t, server.URI()+test.parameters, "broken", 1)
			admin := client(t, server.URI())
			polltest.UntilNoError(t, "an entry is recorded", func() error {
				_, err := s.RecordEntry(t.Context(), entryStep(0))
				return err
			})

			test.spoil(t, server, admin)
			for name, err := range writingSteps(t.Context(), s) {
				if !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s: %v; want %v", name, err, store.ErrUnavailable)
					continue
				}
				for _, want := range []string{test.cause, test.remedy, server.String()} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: %v; want %q", name, err, want)
					}
				}
				if strings.Contains(err.Error(), password(t, server.URI())) {
					t.Errorf("%s: the error contains the password", name)
				}
			}

			test.repair(t, server, admin)
			polltest.Until(t, "the server can be used again", func() bool {
				_, err := s.RecordEntry(t.Context(), entryStep(1))
				return err == nil
			})
			counts := countsOf(t, open(t, server.URI(), "broken", 1))
			if counts.EntriesRecorded != 2 || counts.Matched != 0 {
				t.Errorf("Counts = %+v; want only the two entries", counts)
			}
		})
	}
}

// writingSteps calls several methods of the store that write, and returns the error of each method under its name.
func writingSteps(ctx context.Context, s *Store) map[string]error {
	errs := map[string]error{}
	_, errs["RecordEntry"] = s.RecordEntry(ctx, entryStep(1))
	_, errs["RecordExit"] = s.RecordExit(ctx, exitStep(0))
	_, errs["Confirm"] = s.Confirm(ctx, store.Confirmation{Run: testRun, Type: event.TypeEntry})
	_, errs["Lease"] = s.Lease(ctx, store.CounterExits, 1)
	errs["RecordDeadLetter"] = s.RecordDeadLetter(ctx, 0, "x")
	return errs
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func password(t testing.TB, uri string) string {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal("the URI of the test's server cannot be parsed")
	}
	secret, _ := u.User.Password()
	return secret
}

func TestConnect_ReadsCredentialsForEachConnection(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	admin := client(t, server.URI())
	noError(t, admin.Do(t.Context(), "ACL", "SETUSER", "parking", "on", ">old", "~*", "&*", "+@all").Err())
	var uri atomic.Pointer[string]
	set := func(password string) {
		text := withUser(t, server.URI(), "parking", password)
		uri.Store(&text)
	}
	set("old")
	s := openWith(t, Config{Simulation: "rotation", Partitions: 1}, Dependencies{Binding: func() (binding.Binding, error) { return source(t, *uri.Load())() }})
	record(t, s, 0, store.ResultRecorded)
	noError(t, admin.Do(t.Context(), "ACL", "SETUSER", "parking", "resetpass", ">new").Err())
	noError(t, admin.ClientKillByFilter(t.Context(), "USER", "parking").Err())
	if _, err := s.RecordEntry(t.Context(), entryStep(1)); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("RecordEntry with the old password: %v; want %v", err, store.ErrUnavailable)
	}
	set("new")
	record(t, s, 1, store.ResultRecorded)
}

func TestConnectionError_EachCause_HasTheRemedyAndIsErrNotReadyIfTemporary(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cause      error
		remedy     string
		isNotReady bool
	}{
		"too many open files":                 {os.NewSyscallError("socket", syscall.EMFILE), "ulimit -n", true},
		"too many open files in a DNS lookup": {&net.DNSError{Err: "dial udp 192.0.2.53:53: socket: too many open files", Name: "h", IsTemporary: true}, "ulimit -n", true},
		"a DNS server that does not respond":  {&net.DNSError{Err: "i/o timeout", Name: "h", IsTimeout: true}, "check the DNS", true},
		"a host that does not exist":          {&net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}, "correct the host name", false},
	} {
		err := &net.OpError{Op: "dial", Net: "tcp", Err: tt.cause}
		if got := remedyOf(fmt.Errorf("%w: %w", store.ErrUnavailable, err)); !strings.Contains(got, tt.remedy) {
			t.Errorf("%s: the remedy is %q, want %q", name, got, tt.remedy)
		}
		if got := isNotReady(err); got != tt.isNotReady {
			t.Errorf("%s: the error counts as ErrNotReady: %t, want %t", name, got, tt.isNotReady)
		}
	}
}

func TestStore_ServerIsAReplica_ErrorsContainTheRemedy(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "replica", 1)
	record(t, s, 0, store.ResultRecorded)
	noError(t, client(t, server.URI()).ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	_, reserveErr := s.Reserve(t.Context(), "owner")
	for name, err := range map[string]error{"Reserve": reserveErr, "Purge": s.Purge(t.Context())} {
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "the server is a replica: give the address of the primary") {
			t.Errorf("%s: %v; want the remedy", name, err)
		}
	}
}

// After a failover, a host name refers to the new primary, but connections to the previous primary stay open. The store
// must replace these connections.
func TestStore_Failover_ReconnectsToTheNewPrimary(t *testing.T) {
	t.Parallel()
	before, after := servers.NewRedis(t, servers.RedisOptions{}), servers.NewRedis(t, servers.RedisOptions{})
	var primary atomic.Pointer[servers.Redis]
	primary.Store(before)
	s := openWith(t, Config{Simulation: "failover", Partitions: 1}, Dependencies{Binding: func() (binding.Binding, error) { return source(t, primary.Load().URI())() }})
	for name, err := range writingSteps(t.Context(), s) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	primary.Store(after)
	noError(t, client(t, before.URI()).ReplicaOf(t.Context(), "127.0.0.1", "1").Err())
	polltest.UntilState(t, "every step succeeds on the new primary", func() bool {
		for _, err := range writingSteps(t.Context(), s) {
			if err != nil {
				return false
			}
		}
		return true
	}, func() any { return writingSteps(t.Context(), s) })
}

func TestStore_TLS_VerifiesServerAndPresentsClientCertificate(t *testing.T) {
	t.Parallel()
	authority, other := tlstest.NewAuthority(t, "test CA"), tlstest.NewAuthority(t, "another CA")
	address := servers.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	noError(t, err)
	certificate, key := authority.Issue(t)
	server := servers.NewRedis(t, servers.RedisOptions{
		Config: []string{"tls-port " + port, "tls-ca-cert-file ca.crt", "tls-cert-file tls.crt", "tls-key-file tls.key", "tls-auth-clients yes"},
		Files:  map[string][]byte{"ca.crt": authority.PEM, "tls.crt": certificate, "tls.key": key},
	})
	uri, err := url.Parse(server.URI())
	noError(t, err)
	uri.Scheme, uri.Host = "rediss", address
	plain := *uri
	plain.Scheme = "redis"
	from := func(issuer *tlstest.Authority) (b binding.Binding) {
		b.URI, b.CA = uri, authority.PEM
		b.Certificate, b.Key = issuer.Issue(t, "client")
		return b
	}
	with := func(b binding.Binding) *Store {
		return openWith(t, Config{Simulation: "tls", Partitions: 1}, Dependencies{Binding: binding.Static(b)})
	}

	trusted := from(authority)
	record(t, with(trusted), 0, store.ResultRecorded)
	withoutCA := trusted
	withoutCA.CA = nil
	for name, tt := range map[string]struct {
		binding binding.Binding
		want    string
	}{
		"without the CA": {withoutCA, "put the certificate of that CA into ca.crt"},
		// If the connection is closed early, the error contains advice instead of the server's reason. Both contain the
		// words "client certificate".
		"without a client certificate":     {binding.Binding{URI: uri, CA: authority.PEM}, "client certificate"},
		"with a certificate of another CA": {from(other), "client certificate"},
		"without TLS":                      {binding.Binding{URI: &plain}, "requires TLS"},
	} {
		if err := with(tt.binding).Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Ping %s: %v; want %v, and the text %q", name, err, store.ErrUnavailable, tt.want)
		}
	}
}

func TestNewStore_RejectsInvalidConfig(t *testing.T) {
	t.Parallel()
	at := func(uri string) binding.Source { return exactSource(t, uri) }
	for _, test := range []struct {
		name    string
		config  Config // the zero Config stands for a valid configuration
		binding binding.Source
		says    string
	}{
		{name: "no binding", says: "no binding"},
		{name: "a binding that cannot be read", binding: binding.Directory(binding.Redis(), "/nowhere"), says: "/nowhere"},
		{name: "no partitions", config: Config{Simulation: "a"}, binding: at("redis://localhost"), says: "the number of partitions is 0"},
		{name: "no simulation name", config: Config{Partitions: 1}, binding: at("redis://localhost"), says: "name"},
		{
			name: "a name that breaks the hash tag", says: "brace",
			config: Config{Simulation: "a}b", Partitions: 1}, binding: at("redis://localhost"),
		},
		{
			name: "an unknown parameter", says: "unknown parameter: correct or remove the text after the ?",
			binding: at("redis://:hunter2@localhost/0?colour=red"),
		},
		{
			name: "a password in place of a parameter", says: "unknown parameter: correct or remove the text after the ?",
			binding: at("redis://localhost/0?hunter2"),
		},
		{
			name: "a password in place of a number", says: "the parameter pool_size of the Redis URI has an invalid value",
			binding: at("redis://localhost/0?pool_size=hunter2"),
		},
		{
			name: "a password in place of a boolean", says: "the parameter skip_verify of the Redis URI has an invalid value",
			binding: at("rediss://localhost/0?skip_verify=hunter2"),
		},
		{
			name: "a password in place of a node address", says: "the parameter addr of the Redis URI has an invalid value",
			binding: at("redis://localhost/?addr=hunter2"),
		},
		{
			name: "a database that is not a number", says: "must be a database number",
			binding: at("redis://:hunter2@localhost/first"),
		},
		{
			name: "a database below zero", says: "must be a database number",
			binding: at("redis://:hunter2@localhost/-1"),
		},
		{
			name: "a parameter cluster that is neither true nor false", says: "cluster",
			binding: at("redis://:hunter2@localhost/?cluster=maybe"),
		},
		{
			name: "several addresses with cluster=false", says: "remove cluster=false",
			binding: at("redis://:hunter2@localhost/?cluster=false,redis://:hunter2@other/?cluster=false"),
		},
		{
			name: "a node address without a port", says: "addr",
			binding: at("redis://:hunter2@localhost/?addr=other"),
		},
		{
			name: "a CA that is not a certificate", says: "PEM",
			binding: func() (binding.Binding, error) {
				return binding.Binding{URI: &url.URL{Scheme: "rediss", Host: "localhost"}, CA: []byte("x")}, nil
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.config == (Config{}) {
				test.config = Config{Simulation: "a", Partitions: 1}
			}
			s, err := New(test.config, Dependencies{Binding: test.binding})
			if err == nil {
				t.Fatal(errors.Join(errors.New("New succeeded; want an error"), s.Close()))
			}
			if !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("New: %v; want an error that contains %q and no password", err, test.says)
			}
		})
	}
}

func TestRedisKeys_HaveTheDocumentedExpiries(t *testing.T) {
	t.Parallel()
	simulation := servers.Name(t)
	servers.RemoveKeys(t, simulation)
	s, err := New(Config{Simulation: simulation, Partitions: 1}, Dependencies{Binding: source(t, servers.RedisURI(t))})
	noError(t, err)
	t.Cleanup(func() { noError(t, s.Close()) })
	ctx, redis := t.Context(), client(t, servers.RedisURI(t))

	record(t, s, 0, store.ResultRecorded)
	record(t, s, 1, store.ResultRecorded)
	external := entryStep(2)
	external.Origin = store.Origin{ID: "external"}
	_, err = s.RecordEntry(ctx, external)
	noError(t, err)
	noError(t, s.RecordDeadLetter(ctx, 0, "letter"))
	entry := entryStep(1)
	_, err = s.Confirm(ctx, store.Confirmation{
		Run: testRun, Type: event.TypeEntry, Events: []store.Published{{Plate: entry.Plate, At: entry.At}, {Plate: "ahead", At: entry.At}}, MaxStay: time.Hour,
	})
	noError(t, err)
	_, err = s.Claim(ctx, store.Claim{Run: exitTestRun, Token: 1, Limit: 2, Now: entry.At, MaxStay: time.Hour})
	noError(t, err)

	p := s.partitions[0]
	for key, want := range map[string]time.Duration{
		p.key(keyVisit, "P0"):           time.Hour + store.VisitMargin,
		p.key(keyVisit, "P1"):           time.Hour + store.ClaimedStay,
		p.key(keyVisit, "ahead"):        time.Hour + store.ClaimedStay,
		p.key(keyExternal, "external"):  store.ExternalIDTTL,
		p.key(keyDeadLetter, "letter"):  store.DeadLetterTTL,
		p.key(keyClaims, exitTestRun):   time.Hour + store.ClaimedStay,
		p.key(keyTokens, exitTestRun):   time.Hour + store.ClaimedStay,
		p.key(keyLedger):                -1, // no expiry
		p.bitmap(keySeen, testRun, 0):   -1,
		p.key(keyConfirmed, testRun):    -1,
		p.bitmap(keyMatched, "none", 0): -2, // -2 means that the key does not exist
	} {
		got, err := redis.PTTL(ctx, key).Result()
		noError(t, err)
		if want < 0 && got != want || want > 0 && (got > want || got < want-time.Minute) {
			t.Errorf("%s expires in %v; want %v", key, got, want)
		}
	}
}

func TestStoreFailure_RejectedCommand_IsNotErrUnavailable(t *testing.T) {
	t.Parallel()
	simulation := servers.Name(t)
	servers.RemoveKeys(t, simulation)
	s := open(t, servers.RedisURI(t), simulation, 1)
	noError(t, client(t, servers.RedisURI(t)).Set(t.Context(), s.partitions[0].key(keyLedger), "x", time.Minute).Err())
	_, err := s.RecordEntry(t.Context(), entryStep(0))
	if err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("RecordEntry over a key of another type: %v; want the server's error", err)
	}
}

func TestBatcher_ConcurrentCallers_SharePipelines(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "shared", 1)
	const callers = 300
	errs := together(t, server, s, callers, func(i int64) error {
		_, err := s.RecordEntry(t.Context(), entryStep(i))
		return err
	})
	noError(t, errors.Join(errs...))
	if sent := pipelines(t, s).GetSampleCount(); sent > maxPipelines+callers/maxCalls+1 {
		t.Errorf("%d callers needed %d pipelines; want %d at most", callers, sent, maxPipelines+callers/maxCalls+1)
	}
	if counts := countsOf(t, s); counts.EntriesRecorded != callers {
		t.Errorf("%d entries were recorded; want %d", counts.EntriesRecorded, callers)
	}
}

func TestAppendTimeline_SharesPipelinesWithEvents(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "rows", 1)
	const callers = 200
	second := time.Now().Unix()
	errs := together(t, server, s, callers, func(i int64) error {
		if i%2 == 0 {
			_, err := s.RecordEntry(t.Context(), entryStep(i))
			return err
		}
		row := timeline.Row{Second: second + i%10, Entry: timeline.Events{Published: i}}
		return timeline.NewLog(s.timeline()).Append(t.Context(), "process-"+strconv.FormatInt(i, 10), []timeline.Row{row})
	})
	noError(t, errors.Join(errs...))
	if sent := pipelines(t, s).GetSampleCount(); sent > maxPipelines+callers/maxCalls+1 {
		t.Errorf("%d callers needed %d pipelines; want %d at most", callers, sent, maxPipelines+callers/maxCalls+1)
	}
	rows, err := s.ReadTimeline(t.Context(), time.Unix(second, 0), time.Unix(second+10, 0))
	noError(t, err)
	// The callers add 1 + 3 + ... + 199 = 100² events.
	if got := timeline.Sum(rows...).Entry.Published; got != callers*callers/4 {
		t.Errorf("%d events are in the timeline; want %d", got, callers*callers/4)
	}
}

// TestBatcher_FailedStep_AffectsNoOtherStep makes one operation fail. The server executes this operation in the same
// script call as many others.
func TestBatcher_FailedStep_AffectsNoOtherStep(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "neighbours", 1)
	const callers, broken = 300, 250
	noError(t, client(t, server.URI()).RPush(t.Context(), s.partitions[0].key(keyVisit, "ABC-1234"), "of another type").Err())
	errs := together(t, server, s, callers, func(i int64) error {
		step := exitStep(i)
		step.Plate = "ABC-1234"
		if i != broken {
			step.Intent = event.IntentUnmatched // this exit succeeds, because an intentionally unmatched exit does not read the visit key
		}
		_, err := s.RecordExit(t.Context(), step)
		return err
	})
	if err := errs[broken]; err == nil || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("the exit whose visit key has another type: %v; want the server's error", err)
	}
	errs[broken] = nil
	noError(t, errors.Join(errs...))
	if counts := countsOf(t, s); counts.UnmatchedExpected != callers-1 {
		t.Errorf("%d exits were recorded; want %d", counts.UnmatchedExpected, callers-1)
	}
}

// The server rejects only some steps of a shared pipeline, for example writes when its memory is full.
func TestBatcher_ServerRejectsSomeSteps_OnlyCallersOfTheseStepsGetErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		spoil, repair func(context.Context, *goredis.Client) error
		// cause is a part of the error that each caller that writes must get. If it is empty, all callers must succeed.
		cause string
	}{
		{
			name:   "the server has forgotten the scripts",
			spoil:  func(ctx context.Context, c *goredis.Client) error { return c.ScriptFlush(ctx).Err() },
			repair: func(context.Context, *goredis.Client) error { return nil },
		},
		{
			name: "the memory of the server is full", cause: "OOM",
			spoil:  func(ctx context.Context, c *goredis.Client) error { return c.ConfigSet(ctx, "maxmemory", "1").Err() },
			repair: func(ctx context.Context, c *goredis.Client) error { return c.ConfigSet(ctx, "maxmemory", "0").Err() },
		},
		{
			name: "the server is a replica", cause: "READONLY",
			spoil:  func(ctx context.Context, c *goredis.Client) error { return c.ReplicaOf(ctx, "127.0.0.1", "1").Err() },
			repair: func(ctx context.Context, c *goredis.Client) error { return c.ReplicaOf(ctx, "NO", "ONE").Err() },
		},
		{
			name: "the server has too few replicas", cause: "NOREPLICAS",
			spoil: func(ctx context.Context, c *goredis.Client) error {
				return c.ConfigSet(ctx, "min-replicas-to-write", "1").Err()
			},
			repair: func(ctx context.Context, c *goredis.Client) error {
				return c.ConfigSet(ctx, "min-replicas-to-write", "0").Err()
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := servers.NewRedis(t, servers.RedisOptions{})
			s := open(t, server.URI(), "mixed", 2)
			admin := client(t, server.URI())
			mixed := newMixedCallers(t, s)
			noError(t, test.spoil(t.Context(), admin))
			for i, err := range together(t, server, s, mixed.callers, mixed.call) {
				switch {
				case test.cause == "" || !mixed.writes(i):
					noError(t, err)
				case err == nil || !strings.Contains(err.Error(), test.cause):
					t.Errorf("caller %d: %v; want %s", i, err, test.cause)
				}
			}
			noError(t, test.repair(t.Context(), admin))
			if test.cause != "" {
				noError(t, errors.Join(together(t, server, s, mixed.callers, mixed.call)...))
			}
			mixed.check()
		})
	}
}

// mixedCallers makes three kinds of calls concurrently, in two partitions: new entries, new exits, and repeated exits.
type mixedCallers struct {
	t       *testing.T
	store   *Store
	callers int
}

func newMixedCallers(t *testing.T, s *Store) *mixedCallers {
	t.Helper()
	m := &mixedCallers{t: t, store: s, callers: 300}
	for i := range int64(m.callers) {
		var err error
		switch i % 3 {
		case 1:
			record(t, s, i, store.ResultRecorded)
			_, err = s.RecordExit(t.Context(), exitStep(i))
		case 2:
			entry := entryStep(i)
			entry.Partition = 1
			_, err = s.RecordEntry(t.Context(), entry)
		}
		noError(t, err)
	}
	return m
}

// writes reports whether the call of a caller changes the store.
func (m *mixedCallers) writes(caller int) bool { return caller%3 != 1 }

// call records the entry or the exit of one caller. It also returns an error if the result is that of another caller.
func (m *mixedCallers) call(i int64) error {
	exit := exitStep(i)
	want := store.ResultPending
	switch i % 3 {
	case 0:
		result, err := m.store.RecordEntry(m.t.Context(), entryStep(i))
		if err == nil && result != store.ResultRecorded {
			return fmt.Errorf("the entry %d is %s", i, result)
		}
		return err
	case 2:
		exit.Partition, want = 1, store.ResultMatched
	}
	got, err := m.store.RecordExit(m.t.Context(), exit)
	if err == nil && (got.Result != want || got.Summary.Plate != exit.Plate || got.Summary.ID != exit.Origin.ID) {
		return fmt.Errorf("the exit %d of %s is %s with the summary of %s", i, exit.Plate, got.Result, got.Summary.Plate)
	}
	return err
}

// check fails the test unless the entry or exit of each caller has taken effect exactly once.
func (m *mixedCallers) check() {
	m.t.Helper()
	counts, each := countsOf(m.t, m.store), int64(m.callers/3)
	if counts.EntriesRecorded != 3*each || counts.Matched != 2*each || counts.DuplicatesSuppressed != 0 {
		m.t.Errorf("the ledger has %+v; want %d entries and %d matched exits", counts, 3*each, 2*each)
	}
}

// together runs call in several goroutines. It pauses the server until every call is queued or sent, so that the
// calls share pipelines.
func together(t *testing.T, server *servers.Redis, s *Store, callers int, call func(i int64) error) []error {
	t.Helper()
	noError(t, s.Ping(t.Context()))
	noError(t, server.Pause())
	before := pipelines(t, s).GetSampleSum()
	var group sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		group.Go(func() { errs[i] = call(int64(i)) })
	}
	polltest.Until(t, "every call is queued or sent", func() bool {
		b := s.batchers[0]
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.queue)+int(pipelines(t, s).GetSampleSum()-before) == callers
	})
	noError(t, server.Resume())
	group.Wait()
	return errs
}

// pipelines returns the histogram of the calls per pipeline. Its sample count is the number of pipelines, and its
// sample sum is the number of calls.
func pipelines(t *testing.T, s *Store) *dto.Histogram {
	t.Helper()
	var m dto.Metric
	noError(t, s.batchers[0].metrics.calls.Write(&m))
	return m.GetHistogram()
}

// TestBatcher_SomeCallersGiveUp_OtherCallersGetTheirReplies lets many calls time out while the server hangs.
func TestBatcher_SomeCallersGiveUp_OtherCallersGetTheirReplies(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "leaving", 1)
	record(t, s, 0, store.ResultRecorded)
	noError(t, server.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var group sync.WaitGroup
	for i := range int64(200) {
		group.Go(func() {
			if _, err := s.RecordEntry(ctx, entryStep(1+i)); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrUnavailable) {
				t.Errorf("RecordEntry of a caller that left: %v; want %v", err, context.DeadlineExceeded)
			}
		})
	}
	group.Go(func() {
		if _, err := s.Lease(ctx, store.CounterExits, 1); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Lease of a caller that left: %v; want %v", err, context.DeadlineExceeded)
		}
	})
	stays := make(chan error, 1)
	go func() {
		_, err := s.RecordEntry(t.Context(), entryStep(1000))
		stays <- err
	}()
	group.Wait()
	noError(t, server.Resume())
	if err := <-stays; err != nil {
		t.Errorf("RecordEntry of a caller that stayed: %v", err)
	}
	record(t, s, 1000, store.ResultDuplicate)
}

func TestStoreClose_EndsHangingCalls(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	s := open(t, server.URI(), "closing", 1)
	mark := markOf(t, s)
	record(t, s, 0, store.ResultRecorded)
	noError(t, server.Pause())
	const callers = 10
	errs := make(chan error, 2*callers)
	for i := range int64(callers) {
		go func() {
			_, err := s.RecordEntry(t.Context(), entryStep(1+i))
			errs <- err
		}()
		go func() { errs <- s.WaitDurable(t.Context(), 0, mark) }()
	}
	noError(t, s.Close())
	for range 2 * callers {
		if err := <-errs; !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a call while the store was closed: %v; want %v", err, store.ErrUnavailable)
		}
	}
	noError(t, server.Resume())
}

func TestStoreMetrics_AreRegisteredUnderTheDocumentedNames(t *testing.T) {
	t.Parallel()
	simulation := servers.Name(t)
	servers.RemoveKeys(t, simulation)
	registry := prometheus.NewPedanticRegistry()
	config, deps := Config{Simulation: simulation, Partitions: 2}, Dependencies{Binding: source(t, servers.RedisURI(t)), Registerer: registry}
	s := openWith(t, config, deps)
	record(t, s, 0, store.ResultRecorded)
	noError(t, s.WaitDurable(t.Context(), 0, markOf(t, s)))

	families, err := registry.Gather()
	noError(t, err)
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	want := []string{
		"parking_store_data_losses_total", "parking_store_durability_observations_total", "parking_store_pipeline_commands",
		"parking_store_pipeline_seconds", "parking_store_restarts_total", "parking_store_script_loads_total",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if _, err := New(config, deps); err == nil {
		t.Error("New accepted a second store with the same registry; want an error")
	}
}
