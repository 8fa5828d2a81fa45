package redis

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestStoreCheck_UnusableServer_ErrorContainsAddressAndReason(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		user  []any // the ACL rules of the user; if nil, the default user connects, which has all permissions
		spoil func(*testing.T, *goredis.Client)
		want  []string // substrings of the error
		not   []string
	}{
		{name: "all commands are allowed"},
		{
			name: "the user has only the necessary permissions",
			user: []any{"~parking:*", "-@all", "+@read", "+@write", "+@scripting", "+info", "+ping"},
		},
		{
			name: "some commands are forbidden", user: []any{"~parking:*", "+@all", "-hset", "-setbit"},
			want: []string{"the user lacks the permissions +hset +setbit: grant them with ACL SETUSER"},
		},
		{
			name: "a command that only a script uses is forbidden", user: []any{"~parking:*", "+@all", "-hincrby"},
			want: []string{"+hincrby"},
		},
		{name: "scripts are forbidden", user: []any{"~parking:*", "+@all", "-@scripting"}, want: []string{"+eval +evalsha"}},
		{name: "the command INFO is forbidden", user: []any{"~parking:*", "+@all", "-info"}, want: []string{"+info:"}},
		{name: "access to the keys is forbidden", user: []any{"~other:*", "+@all"}, want: []string{"~parking:*"}, not: []string{"+set"}},
		{name: "the keys are read-only", user: []any{"%R~parking:*", "+@all"}, want: []string{"~parking:*"}},
		{
			name: "the server is a replica", want: []string{"READONLY", "give the address of the primary"},
			spoil: func(t *testing.T, c *goredis.Client) { noError(t, c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err()) },
		},
		{
			name: "the memory of the server is full", want: []string{"OOM", "raise maxmemory"},
			spoil: func(t *testing.T, c *goredis.Client) {
				noError(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := servers.NewRedis(t, servers.RedisOptions{})
			admin := client(t, server.URI())
			uri := server.URI()
			if test.user != nil {
				uri = withUser(t, uri, "parking", "s3cr3t")
				noError(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "parking", "on", ">s3cr3t"}, test.user...)...).Err())
			}
			if test.spoil != nil {
				test.spoil(t, admin)
			}
			err := open(t, uri, "checked", 3).Check(t.Context())
			if len(test.want) == 0 {
				noError(t, err)
				if keys := admin.Keys(t.Context(), "*").Val(); len(keys) > 0 {
					t.Errorf("the check left the keys %q", keys)
				}
				return
			}
			if err == nil {
				t.Fatal("the check passed")
			}
			t.Log(err)
			for _, want := range append(test.want, server.String()) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q", want)
				}
			}
			for _, not := range append(test.not, "\n", "s3cr3t", password(t, server.URI())) {
				if strings.Contains(err.Error(), not) {
					t.Errorf("the error says %q", not)
				}
			}
		})
	}
}

// CheckWritable ignores a missing permission, because pods that have worked so far must stay ready.
func TestCheckWritable_ServerAcceptsNoWrites_ReturnsError(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{})
	admin := client(t, server.URI())
	s := open(t, server.URI(), "written", 3)
	noError(t, s.CheckWritable(t.Context()))
	for _, key := range admin.Keys(t.Context(), "*").Val() {
		if left := admin.PTTL(t.Context(), key).Val(); left <= 0 {
			t.Errorf("key %s does not expire", key)
		}
	}
	for _, rules := range [][]any{{"+@all", "-hset"}, {"+@all", "-set"}, {"+@all", "-info", "-@scripting"}} {
		noError(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "parking", "reset", "on", ">s3cr3t", "~parking:*"}, rules...)...).Err())
		if err := open(t, withUser(t, server.URI(), "parking", "s3cr3t"), "limited", 3).CheckWritable(t.Context()); err != nil {
			t.Errorf("with %v: %v", rules, err)
		}
	}
	noError(t, admin.ConfigSet(t.Context(), "maxmemory", "1").Err())
	if err := s.CheckWritable(t.Context()); err == nil || !strings.Contains(err.Error(), "OOM") || !strings.Contains(err.Error(), "raise maxmemory") {
		t.Errorf("with a full memory: %v", err)
	}
}

func TestCheckWritable_ClusterNodeAcceptsNoWrites_ReturnsError(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	s := open(t, c.URI(0), "written", 12)
	noError(t, s.CheckWritable(t.Context()))
	noError(t, c.Admins[2].ConfigSet(t.Context(), "maxmemory", "1").Err())
	if err := s.CheckWritable(t.Context()); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("with a node whose memory is full: %v", err)
	}
}

func TestStoreCheck_TriesEveryCommandOfTheScripts(t *testing.T) {
	t.Parallel()
	var tried []string
	for _, command := range trialsOn("", "") {
		tried = append(tried, command[0].(string))
	}
	calls := regexp.MustCompile(`call\('([A-Z]+)'`)
	noError(t, fs.WalkDir(luaFiles, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := luaFiles.ReadFile(path)
		for _, call := range calls.FindAllStringSubmatch(string(source), -1) {
			if !slices.Contains(tried, call[1]) {
				t.Errorf("%s calls %s, which is not tried", path, call[1])
			}
		}
		return err
	}))
}

func TestStorePing_UnusableServer_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{Config: []string{"databases 2"}})
	noError(t, client(t, server.URI()).Do(t.Context(), "ACL", "SETUSER", "mute", "on", ">x", "~*", "+@all", "-ping").Err())
	for uri, want := range map[string]string{
		withUser(t, server.URI(), "default", "wrong"):            "WRONGPASS invalid username-password pair or user is disabled.; correct the user name or password",
		withUser(t, server.URI(), "", ""):                        "NOAUTH Authentication required.; add the user and password to the URI",
		strings.TrimSuffix(server.URI(), "/0") + "?cluster=true": "the server is not a cluster: remove the parameters cluster=true and addr",
		strings.TrimSuffix(server.URI(), "/0") + "/7":            "ERR DB index is out of range; the server has no such database: correct the number",
		withUser(t, server.URI(), "mute", "x"):                   "; grant the user +ping with ACL SETUSER",
		"redis://127.0.0.1:1":                                    "connection refused; start Redis there, or correct the host or port",
		"redis://nowhere.invalid:6379":                           "the host name", // the rest of the error depends on whether the machine has DNS
	} {
		err := open(t, uri, "ping", 1).Ping(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Ping: %v; want %q", err, want)
		}
	}
}

func TestStorePing_ServerRepliesWithError_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		reply, want string
		isNotReady  bool
	}{
		{"-ERR max number of clients reached", "raise maxclients", true},
		{"-ERR max number of clients + cluster connections reached", "raise maxclients", true},
		{"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user.", "protected-mode no", false},
		{"-LOADING Redis is loading the dataset in memory", "wait until the data is loaded", true},
		{"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "give the address of the primary", true},
		{"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", "SCRIPT KILL", true},
		{"-NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write", true},
		{"-MISCONF Errors writing to the AOF file: No space left on device", "check its log", true},
		{"-CLUSTERDOWN Hash slot not served", "CLUSTER INFO", true},
		{"-ERR unknown command 'EVALSHA', with args beginning with: ", "not of a Sentinel", false},
	} {
		t.Run(test.reply, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			noError(t, err)
			defer func() { _ = listener.Close() }()
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					// A server that rejects the connection replies once, and closes the connection. The other servers
					// in this test reply to every command.
					go func() {
						defer func() { _ = conn.Close() }()
						for command := make([]byte, 4096); ; {
							if n, err := conn.Read(command); err != nil || n == 0 {
								return
							}
							if _, err := io.WriteString(conn, test.reply+"\r\n"); err != nil {
								return
							}
							if strings.HasPrefix(test.reply, "-ERR max") || strings.HasPrefix(test.reply, "-DENIED") {
								return
							}
						}
					}()
				}
			}()
			err = open(t, "redis://"+listener.Addr().String(), "ping", 1).Ping(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, store.ErrNotReady) != test.isNotReady {
				t.Errorf("Ping: %v; want %q", err, test.want)
			}
		})
	}
}

// The client library ignores the database number in the URI of a Redis cluster. Without the check, the store would write
// to database 0 and report no error.
func TestNewStore_DatabaseOtherThan0OfARedisCluster_IsRejected(t *testing.T) {
	t.Parallel()
	for uri, valid := range map[string]bool{
		"redis://h?cluster=true": true, "redis://h/?cluster=true": true, "redis://h/0?cluster=true": true, "redis://h/3": true,
		"redis://h/3?cluster=true": false, "rediss://h/12?addr=i:6379": false,
	} {
		at, err := url.Parse(uri)
		noError(t, err)
		s, err := New(Config{Simulation: "a", Partitions: 1}, Dependencies{Binding: binding.Static(binding.Binding{URI: at})})
		if err == nil {
			noError(t, s.Close())
		}
		if (err == nil) != valid || err != nil && !strings.Contains(err.Error(), "a Redis cluster has only database 0") {
			t.Errorf("%s: the error is %v; want a valid URI: %t", uri, err, valid)
		}
	}
}

// Another node may serve the slots of a node that does not respond. No reload is needed if the node replies, because
// the client library handles MOVED.
func TestReloader_NodeDoesNotRespond_ReloadsTheTopology(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for name, test := range map[string]struct {
		ctx  context.Context
		err  error
		want int
	}{
		"the node times out":           {t.Context(), &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, 1},
		"the caller's deadline passes": {late, context.DeadlineExceeded, 1},
		"the node refuses connections": {t.Context(), &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, 1},
		"the node ends the connection": {t.Context(), io.EOF, 1},
		"the command succeeds":         {t.Context(), nil, 0},
		"the node replies":             {t.Context(), goredis.Nil, 0},
		"the caller cancels":           {canceled, context.Canceled, 0},
	} {
		reloads := 0
		hook := reloader{reload: func() { reloads++ }}
		command := hook.ProcessHook(func(context.Context, goredis.Cmder) error { return test.err })
		pipeline := hook.ProcessPipelineHook(func(context.Context, []goredis.Cmder) error { return test.err })
		if err := errors.Join(command(test.ctx, nil), pipeline(test.ctx, nil)); !errors.Is(err, test.err) || reloads != 2*test.want {
			t.Errorf("%s: %d reloads (%v), want %d", name, reloads, err, 2*test.want)
		}
	}
}
