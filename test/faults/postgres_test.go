package faults

import (
	"errors"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestFaults_PostgresIsKilledAndFailsOver_EveryEventIsCountedOnce kills a PostgreSQL primary twice and two summary APIs
// once each, and then fails over to the synchronous replica.
func TestFaults_PostgresIsKilledAndFailsOver_EveryEventIsCountedOnce(t *testing.T) {
	pair, s := startOnPostgres(t, []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"}, "-race")
	for range 2 {
		s.awaitSummaries(t, 100)
		if err := errors.Join(pair.primary.Kill(), s.pause(t.Context()), pair.primary.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	s.killEachSummaryAPI(t)
	s.awaitSummaries(t, 100)
	// Do not wait for summaries: the primary commits none while the replica receives nothing.
	pair.failOverToLaggingReplica(t, func() { s.pauseOrFail(t) })
	s.awaitSummaries(t, 100)
	s.auditAtRest(t)
}

// TestFaults_PostgresFailsOverToAsynchronousReplica_SummariesAreMissing promotes a replica that lacks the latest
// summaries.
func TestFaults_PostgresFailsOverToAsynchronousReplica_SummariesAreMissing(t *testing.T) {
	pair, s := startOnPostgres(t, nil)
	s.awaitSummaries(t, 100)
	pair.failOverToLaggingReplica(t, func() { s.awaitSummaries(t, 300) })
	s.awaitSummaries(t, 100)
	report := s.rest(t)
	err := s.checkSummaries(t, report)
	if stored := s.storedSummaries(t); err == nil || stored == 0 || stored >= report.Ledger.Matched {
		t.Fatalf("the API stores %d of %d summaries, and the check returns %v; want fewer summaries and an error", stored, report.Ledger.Matched, err)
	}
	t.Logf("as it must, the check fails: %v", err)
}

// postgresPair is a PostgreSQL server and its streaming replica.
type postgresPair struct{ primary, replica *servers.Postgres }

// startOnPostgres starts a simulation with two summary APIs on a PostgreSQL primary and its replica. It first
// executes the statements on the primary.
func startOnPostgres(t *testing.T, statements []string, buildFlags ...string) (postgresPair, *simulation) {
	t.Helper()
	redis := servers.NewRedis(t, servers.RedisOptions{})
	primary := servers.NewPostgres(t, servers.PostgresOptions{})
	uri, err := primary.CreateDatabase(t.Context(), "parking")
	if err != nil {
		t.Fatal(err)
	}
	replica := servers.NewPostgres(t, servers.PostgresOptions{Primary: primary})
	if err := primary.Exec(t.Context(), statements...); err != nil {
		t.Fatal(err)
	}
	both := strings.Replace(uri, primary.Address(), primary.Address()+","+replica.Address(), 1)
	s := startSimulationOn(t, serverSet{redis: plan.BindingRef{URI: redis.URI()}, database: both, summaryAPIs: 2}, buildFlags...)
	return postgresPair{primary, replica}, s
}

// failOverToLaggingReplica stops the replication, calls the function wait, kills the primary, and promotes the replica.
func (p postgresPair) failOverToLaggingReplica(t *testing.T, wait func()) {
	t.Helper()
	if err := p.replica.StopReceiving(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	if err := errors.Join(p.primary.Kill(), p.replica.Promote(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// killEachSummaryAPI kills the summary APIs in turn, while the other stores the summaries. Before each kill, a proxy
// drops responses, so that processors post some summaries again.
func (s *simulation) killEachSummaryAPI(t *testing.T) {
	t.Helper()
	for _, api := range s.stack.SummaryAPIs() {
		err := errors.Join(s.misbehave(t.Context(), dropsAfterStoring), api.Kill())
		// Wait for many summaries: the first of them may come from the killed API.
		s.awaitSummaries(t, 300)
		if err := errors.Join(err, api.Start()); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitSummaries waits until the ledger counts the given number of further stored summaries.
func (s *simulation) awaitSummaries(t *testing.T, count int64) {
	t.Helper()
	s.awaitGrowth(t, "more summaries are stored", count, func(r *auditReport) int64 { return r.Ledger.SummariesStored })
}
