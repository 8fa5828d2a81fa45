package redis

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The basic permissions in docs/ledger.md must suffice for database 0. For another database, a cluster and replicas,
// the additional permissions must be necessary, and must suffice.
func TestRedisRights_DocumentedRights_Suffice(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/ledger.md")
	noError(t, err)
	prose := strings.Join(strings.Fields(string(text)), " ") // without line breaks
	documented := regexp.MustCompile("ACL rules `([^`]+)`, for a database other than 0 also `([^`]+)`, for a cluster also `([^`]+)`, for a server with replicas also `([^`]+)`, and for the durability `Synced` instead `([^`]+)`").FindStringSubmatch(prose)
	if documented == nil {
		t.Fatal("docs/ledger.md lists no ACL rules")
	}
	basic, database, cluster, replicas, synced := documented[1], documented[2], documented[3], documented[4], documented[5]

	server := servers.NewRedis(t, servers.RedisOptions{})
	admin := client(t, server.URI())
	own := strings.TrimSuffix(withUser(t, server.URI(), "parking", "s3cr3t"), "/0")
	t.Run("database 0", func(t *testing.T) { checkRights(t, Config{}, own+"/0", basic, "", admin) })
	t.Run("database 1", func(t *testing.T) { checkRights(t, Config{}, own+"/1", basic, database, admin) })
	t.Run("cluster", func(t *testing.T) {
		c := newCluster(t, 2)
		checkRights(t, Config{}, withUser(t, c.Nodes[0].URI(), "narrow", "s3cr3t")+"?cluster=true", basic, cluster, c.Admins...)
	})
	t.Run("replicas", func(t *testing.T) {
		p := newPair(t)
		uri := withUser(t, p.servers[0].URI(), "parking", "s3cr3t")
		checkRights(t, Config{}, uri, basic, replicas, p.primary)

		s := open(t, uri, "rights", 2)
		settled(t, s)
		noError(t, p.primary.Do(t.Context(), "ACL", "SETUSER", "parking", "-wait").Err())
		err := s.WaitDurable(t.Context(), 0, markOf(t, s))
		if !errors.Is(err, store.ErrUnavailable) || !strings.HasSuffix(err.Error(), "; grant the user +wait with ACL SETUSER") {
			t.Errorf("WaitDurable without the right to wait: %v; want the remedy", err)
		}
	})
	t.Run("Synced", func(t *testing.T) {
		requireWAITAOF(t, admin)
		p := newPair(t)
		uri := withUser(t, p.servers[0].URI(), "parking", "s3cr3t")
		checkRights(t, Config{Durability: plan.DurabilitySynced}, uri, basic, synced, p.primary)
	})
}

// checkRights checks that a user can run every command of a simulation with the basic and the additional permissions,
// but not with the basic ones alone.
func checkRights(t *testing.T, c Config, uri, basic, additional string, admins ...*goredis.Client) {
	t.Helper()
	c.Simulation, c.Partitions = "rights", 2
	openStore := func() *Store { return openWith(t, c, Dependencies{Binding: source(t, uri)}) }
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
		if err := openStore().Check(t.Context()); err == nil {
			t.Errorf("the check passes without %s", additional)
		}
	}
	grant(basic + " " + additional)
	s := openStore()
	noError(t, s.Check(t.Context()))
	record(t, s, 0, store.ResultRecorded)
	noError(t, s.Purge(t.Context()))
}
