package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/plan"
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
	eventually(ctx, t, "the API counts the copied summaries", func() error {
		stats, err := get(ctx, "http://"+address+"/v1/stats")
		if err == nil && !strings.Contains(stats, `"count":5000`) {
			err = fmt.Errorf("statistics are %s", stats)
		}
		return err
	})
}

// The process starts although PostgreSQL rejects its password, because the password may be corrected while the process
// runs.
func TestSummaries_PostgresRejectsThePassword_IsNotReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	uri := servers.PostgresURI(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	address := servers.FreeAddress(t)
	start(ctx, t, "summaries", "--database-uri", strings.Replace(uri, "@", "wrong@", 1), "--http", address)
	awaitUnready(ctx, t, address, "rejects the credentials; correct the user name and the password")
}

// The readiness check times out before the connection attempt does. So it reports the error of an earlier attempt.
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

// awaitUnready waits until the readiness check of a process fails with the given reason.
func awaitUnready(ctx context.Context, t *testing.T, address, want string) {
	t.Helper()
	eventually(ctx, t, "/readyz says why", func() error {
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

// The URI may come from the environment, and the credentials from a directory, as for RabbitMQ and Redis.
func TestPostgresFlags_URIFromEnvironmentAndSecretDirFromFlag_UsesBoth(t *testing.T) {
	t.Parallel()
	f := postgresFlags{ref: plan.BindingRef{SecretDir: "dir"}, changed: func(string) bool { return false }}
	f.fromEnvironment(func(string) string { return "postgres://h/d" })
	if want := (plan.BindingRef{URI: "postgres://h/d", SecretDir: "dir"}); f.ref != want {
		t.Errorf("the binding reference is %+v, want %+v", f.ref, want)
	}
}
