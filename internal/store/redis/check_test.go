package redis

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/test/servers"
)

func TestCheck_UnusableServer_ErrorContainsAddressAndReason(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		user  []any // the ACL rules of the user; empty grants every right
		spoil func(*testing.T, *goredis.Client)
		want  []string // substrings of the error
		not   []string
	}{
		{name: "nothing is refused"},
		{
			name: "just what is needed is granted",
			user: []any{"~parking:*", "-@all", "+@read", "+@write", "+@scripting", "+info", "+ping"},
		},
		{
			name: "some commands are forbidden", user: []any{"~parking:*", "+@all", "-hset", "-setbit"},
			want: []string{"the user lacks the permissions +hset +setbit: grant them with ACL SETUSER"},
		},
		{
			name: "a command of a script alone is forbidden", user: []any{"~parking:*", "+@all", "-hincrby"},
			want: []string{"+hincrby"},
		},
		{name: "scripts are forbidden", user: []any{"~parking:*", "+@all", "-@scripting"}, want: []string{"+eval +evalsha"}},
		{name: "the observation is forbidden", user: []any{"~parking:*", "+@all", "-info"}, want: []string{"+info:"}},
		{name: "the keys are forbidden", user: []any{"~other:*", "+@all"}, want: []string{"~parking:*"}, not: []string{"+set"}},
		{name: "the keys can be read only", user: []any{"%R~parking:*", "+@all"}, want: []string{"~parking:*"}},
		{
			name: "it is a replica", want: []string{"READONLY", "give the address of the primary"},
			spoil: func(t *testing.T, c *goredis.Client) { noError(t, c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err()) },
		},
		{
			name: "its memory is full", want: []string{"OOM", "raise maxmemory"},
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
					t.Errorf("the check left %q", keys)
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

func TestCheck_TriesEveryCommandOfTheScripts(t *testing.T) {
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

func TestPing_UnusableServer_ErrorContainsTheRemedy(t *testing.T) {
	t.Parallel()
	server := servers.NewRedis(t, servers.RedisOptions{Config: []string{"databases 2"}})
	noError(t, client(t, server.URI()).Do(t.Context(), "ACL", "SETUSER", "mute", "on", ">x", "~*", "+@all", "-ping").Err())
	for uri, want := range map[string]string{
		withUser(t, server.URI(), "default", "wrong"):            "WRONGPASS invalid username-password pair or user is disabled.; correct the user name or password",
		withUser(t, server.URI(), "", ""):                        "NOAUTH Authentication required.; add the user and password to the URI",
		strings.TrimSuffix(server.URI(), "/0") + "?cluster=true": "it is a single server: remove the parameters cluster=true and addr",
		strings.TrimSuffix(server.URI(), "/0") + "/7":            "ERR DB index is out of range; the server has no such database: correct the number",
		withUser(t, server.URI(), "mute", "x"):                   "; grant the user the command with ACL SETUSER",
		"redis://127.0.0.1:1":                                    "connection refused; start Redis there, or correct the host or port",
		"redis://nowhere.invalid:6379":                           "; correct the host name",
	} {
		err := open(t, uri, "ping", 1).Ping(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Ping: %v; want %q", err, want)
		}
	}
}
