package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
	"github.com/parking-operator/parking-operator/internal/summary/summarytest"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestSummariesMigrate_CopiesAnSQLiteFileAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	file := filepath.Join(t.TempDir(), "summaries.db")
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: file})
	if err != nil {
		t.Fatal(err)
	}
	const total = 5000
	batch := make([]event.Summary, total)
	for i := range batch {
		batch[i] = summarytest.Visit(fmt.Sprintf("id-%d", i), "P", i%7)
	}
	summarytest.Insert(t, db, batch...)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5000 copied now, 0 stored before", "0 copied now, 5000 stored before"} {
		got := parking(t, "summaries", "migrate", "--from", file, "--database-uri", uri)
		if got.code != exitOK || !strings.Contains(got.stdout, want) {
			t.Errorf("exit code %d, output %q, errors %q, want %q", got.code, got.stdout, got.stderr, want)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	start(ctx, t, "summaries", "--database-uri", uri, "--http", address)
	polltest.UntilNoError(t, "the API counts the copied summaries", func() error {
		stats, err := get(ctx, "http://"+address+"/v1/stats")
		if err == nil && !strings.Contains(stats, `"count":5000`) {
			err = fmt.Errorf("statistics are %s", stats)
		}
		return err
	})
}

// Wrong credentials and a wrong database name are bad input. A lack of free connections is a failure, because the input
// may be correct.
func TestSummariesMigrate_ServerRejectsConnection_ExitCodeDependsOnTheReason(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, servers.PostgresOptions{})
	uri, err := server.CreateDatabase(t.Context(), "limited")
	if err != nil {
		t.Fatal(err)
	}
	migrate := func(uri string, code int, want string) {
		t.Helper()
		got := parking(t, "summaries", "migrate", "--from", sqliteFile(t), "--database-uri", uri)
		if got.code != code || !strings.Contains(got.stderr, want) {
			t.Errorf("exit code %d, want %d and %q: %s", got.code, code, want, got.stderr)
		}
	}
	migrate(strings.Replace(uri, "@", "wrong@", 1), exitBadInput, "rejects the credentials; correct the user name and the password")
	migrate(strings.TrimSuffix(uri, "limited")+"nosuch", exitBadInput, "has no such database; create it")
	if err := server.Exec(t.Context(), "ALTER ROLE limited CONNECTION LIMIT 0"); err != nil {
		t.Fatal(err)
	}
	migrate(uri, exitFailed, "has no free connections")
}

func TestSummariesMigrate_VariablesOfPostgreSQLClients_AreIgnored(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{"PGSERVICE=nosuch", "PGSSLMODE=bogus", "PGOPTIONS=-c search_path=nosuch", "PGTARGETSESSIONATTRS=standby"} {
		got := parkingWith(t, []string{variable}, "summaries", "migrate", "--from", sqliteFile(t), "--database-uri", servers.PostgresURI(t))
		if got.code != exitOK {
			t.Errorf("%s: exit code %d: %s", variable, got.code, got.stderr)
		}
	}
}

// The password may be corrected while the process runs, so a wrong password must not stop the process.
func TestSummaries_PostgresRejectsThePassword_IsNotReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	start(ctx, t, "summaries", "--database-uri", strings.Replace(uri, "@", "wrong@", 1), "--http", address)
	awaitUnready(ctx, t, address, "rejects the credentials; correct the user name and the password")
}

// The readiness check times out before the connection attempt, so it reports the error of an earlier attempt.
func TestSummaries_PostgresIsSilent_IsNotReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	start(ctx, t, "summaries", "--database-uri", "postgres://u:s3cr3t@"+silent.Addr().String()+"/d", "--http", address)
	awaitUnready(ctx, t, address, silent.Addr().String()+"/d does not answer in time")
}

const (
	// newerSchema makes the schema look like that of a newer version of the program.
	newerSchema = "INSERT INTO parking_schema_version (version_id, is_applied) VALUES (99, true)"
	// isNewer is part of the error about a newer schema.
	isNewer = "the tables have schema version 99, but this version of parking supports versions up to"
)

// The operator copies the reason of the readiness check into the condition SummaryAPIReady.
func TestSummaries_PostgresFault_IsNotReadyAndSaysWhyUntilTheRepair(t *testing.T) {
	t.Parallel()
	server := servers.NewPostgres(t, servers.PostgresOptions{})
	tests := []struct {
		name string
		// The fields inject and repair contain SQL statements of the superuser. In them, USER stands for the user name
		// of the process, which is also the name of its database.
		inject, repair []string
		want           string
	}{
		{"no free connections",
			[]string{"ALTER ROLE USER CONNECTION LIMIT 0", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'USER'"},
			[]string{"ALTER ROLE USER CONNECTION LIMIT -1"},
			"has no free connections; raise max_connections or the connection limit of the user"},
		// A newer version of the program may have changed the tables, so a missing table causes a check of the schema
		// version.
		{"a newer schema with other tables",
			[]string{newerSchema, "ALTER TABLE summaries RENAME TO visits"},
			[]string{"ALTER TABLE visits RENAME TO summaries", "DELETE FROM parking_schema_version WHERE version_id = 99"},
			isNewer},
		{"a missing table",
			[]string{"ALTER TABLE summaries RENAME TO visits"},
			[]string{"ALTER TABLE visits RENAME TO summaries"},
			"no longer has all tables; drop the whole schema so that all tables are created again, or restore a backup"},
		{"a server that becomes read-only",
			[]string{"ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"},
			[]string{"ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"},
			"accepts no writes, although it is not a replica; set default_transaction_read_only to off"},
	}
	for i, tt := range tests { // not in parallel, because a fault may affect all databases
		t.Run(tt.name, func(t *testing.T) {
			user := fmt.Sprintf("fault%d", i)
			uri, err := server.CreateDatabase(t.Context(), user)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			execute := func(statements []string) {
				for _, statement := range statements {
					executeSQL(ctx, t, strings.TrimSuffix(server.URI(), "postgres")+user, strings.ReplaceAll(statement, "USER", user))
				}
			}
			address := servers.FreeAddress(t)
			start(ctx, t, "summaries", "--database-uri", uri, "--http", address)
			awaitReady(ctx, t, address)
			execute(tt.inject)
			awaitUnready(ctx, t, address, tt.want)
			execute(tt.repair)
			awaitReady(ctx, t, address)
		})
	}
}

// The disk of PostgreSQL is full before the summary API has created its tables.
func TestSummaries_PostgresDiskFullAtStart_IsNotReadyAndSaysWhyUntilTheRepair(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		servers.SkipOrFail(t, "only root can mount a small volume")
	}
	server := servers.NewPostgres(t, servers.PostgresOptions{VolumeMiB: 48, Config: []string{"autovacuum=off"}})
	uri, err := server.CreateDatabase(t.Context(), "full")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	executeSQL(ctx, t, server.URI(),
		"CREATE TABLE ballast (page text)", "ALTER TABLE ballast ALTER page SET STORAGE PLAIN", `
		DO $$ BEGIN
			LOOP
				INSERT INTO ballast VALUES (repeat('x', 5000));
			END LOOP;
		EXCEPTION WHEN disk_full THEN NULL;
		END $$`)
	address := servers.FreeAddress(t)
	start(ctx, t, "summaries", "--database-uri", uri, "--http", address)
	awaitUnready(ctx, t, address, "has a full disk; enlarge its volume, or delete data")
	if err := server.ResizeVolume(512); err != nil {
		t.Fatal(err)
	}
	awaitReady(ctx, t, address)
}

// No retry can make a database with a newer schema usable, so the summary API must exit.
func TestSummaries_PostgresHasNewerSchemaAtStart_ExitsAndSaysWhy(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	start(ctx, t, "summaries", "--database-uri", uri, "--http", address)
	awaitReady(ctx, t, address)
	executeSQL(ctx, t, uri, newerSchema)
	got := parking(t, "summaries", "--database-uri", uri, "--http", servers.FreeAddress(t))
	if got.code != exitBadInput || !strings.Contains(got.stderr, isNewer) {
		t.Errorf("exit code %d, errors %q, want %d and %q", got.code, got.stderr, exitBadInput, isNewer)
	}
}

// executeSQL runs SQL statements, each in its own transaction.
func executeSQL(ctx context.Context, t *testing.T, uri string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func awaitReady(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	polltest.UntilNoError(t, "the process is ready", func() error {
		_, err := get(ctx, "http://"+address+"/readyz")
		return err
	})
}

// awaitUnready waits until the readiness check of a process fails with the given reason.
func awaitUnready(ctx context.Context, t *testing.T, address, want string) {
	t.Helper()
	polltest.UntilNoError(t, "/readyz says why", func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err == nil && (response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), want)) {
			err = fmt.Errorf("status %d, %q", response.StatusCode, body)
		}
		return err
	})
}

func TestPostgresFlags_URIFromEnvironmentAndSecretDirFromFlag_UsesBoth(t *testing.T) {
	t.Parallel()
	f := postgresFlags{ref: plan.BindingRef{SecretDir: "dir"}, changed: func(string) bool { return false }}
	f.fromEnvironment(func(string) string { return "postgres://h/d" })
	if want := (plan.BindingRef{URI: "postgres://h/d", SecretDir: "dir"}); f.ref != want {
		t.Errorf("the binding reference is %+v, want %+v", f.ref, want)
	}
}
