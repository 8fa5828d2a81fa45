package redis

import (
	"os"
	"regexp"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestRedisRights_DocumentedRights_Suffice checks the permissions that docs/ledger.md lists. The basic permissions must
// suffice for database 0. For another database and for a cluster, the additional permissions in the document must
// be necessary and must suffice.
func TestRedisRights_DocumentedRights_Suffice(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/ledger.md")
	noError(t, err)
	documented := regexp.MustCompile("ACL rules\\s`([^`]+)`, for a database other than 0 also `([^`]+)`, and for a cluster\\salso\\s`([^`]+)`").FindStringSubmatch(string(text))
	if documented == nil {
		t.Fatal("docs/ledger.md lists no ACL rules")
	}
	basic, database, cluster := documented[1], documented[2], documented[3]

	server := servers.NewRedis(t, servers.RedisOptions{})
	admin := client(t, server.URI())
	own := strings.TrimSuffix(withUser(t, server.URI(), "parking", "s3cr3t"), "/0")
	t.Run("database 0", func(t *testing.T) { checkRights(t, own+"/0", basic, "", admin) })
	t.Run("database 1", func(t *testing.T) { checkRights(t, own+"/1", basic, database, admin) })
	t.Run("cluster", func(t *testing.T) {
		c := newCluster(t, 2)
		checkRights(t, withUser(t, c.nodes[0].URI(), "narrow", "s3cr3t")+"?cluster=true", basic, cluster, c.admins...)
	})
}

// checkRights checks that a user with the basic and the additional permissions can run every command of a
// simulation, and that a user without the additional permissions cannot.
func checkRights(t *testing.T, uri, basic, additional string, admins ...*goredis.Client) {
	t.Helper()
	grant := func(rules string) {
		user, _, _ := strings.Cut(strings.TrimPrefix(uri, "redis://"), ":")
		for _, admin := range admins {
			args := []any{"ACL", "SETUSER", user, "reset", "on", ">s3cr3t"}
			for rule := range strings.FieldsSeq(rules) {
				args = append(args, rule)
			}
			noError(t, admin.Do(t.Context(), args...).Err())
		}
	}
	if additional != "" {
		grant(basic)
		if err := open(t, uri, "rights", 2).Check(t.Context()); err == nil {
			t.Errorf("the check passes without %s", additional)
		}
	}
	grant(basic + " " + additional)
	s := open(t, uri, "rights", 2)
	noError(t, s.Check(t.Context()))
	record(t, s, 0, store.ResultRecorded)
	noError(t, s.Purge(t.Context()))
}
