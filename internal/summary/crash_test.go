package summary_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/httpserver"
	"github.com/parking-operator/parking-operator/internal/summary"
	"github.com/parking-operator/parking-operator/internal/summary/client"
	"github.com/parking-operator/parking-operator/internal/summary/rest"
	"github.com/parking-operator/parking-operator/internal/summary/sqlite"
)

// envDatabase is the environment variable with the path of a database. If it is set, the test binary serves that
// database instead of running tests.
const envDatabase = "PARKING_TEST_SUMMARY_DATABASE"

func TestMain(m *testing.M) {
	if path := os.Getenv(envDatabase); path != "" {
		if err := runServer(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runServer serves a database over HTTP and prints its address. The server ends when its standard input is closed. It
// therefore does not outlive the test that started it.
func runServer(path string) error {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	db, err := sqlite.Open(ctx, sqlite.Config{Path: path})
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	service, err := summary.New(db, registry, log)
	if err != nil {
		return err
	}
	api, err := rest.New(rest.Dependencies{Summaries: service, Registerer: registry, Logger: log})
	if err != nil {
		return err
	}
	server, err := httpserver.Listen(ctx, "127.0.0.1:0", api, log)
	if err != nil {
		return err
	}
	fmt.Println(server.Address())
	return errors.Join(server.Serve(ctx), service.Close())
}

// process is a server that runs in a child process.
type process struct {
	command *exec.Cmd
	url     string
}

func startProcess(t *testing.T, path string) *process {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), executable)
	command.Env = append(os.Environ(), envDatabase+"="+path)
	command.Stderr = os.Stderr
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("the server did not start: %v", err)
	}
	return &process{command: command, url: "http://" + strings.TrimSpace(address)}
}

// kill sends SIGKILL and waits until the process has ended.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.command.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = p.command.Wait() // Wait returns an error, because the process was killed
}

// load is a set of summaries that clients post to a server that is killed repeatedly.
type load struct {
	mu sync.Mutex
	// The field pending contains the summaries that the server has not accepted yet.
	pending  []event.Summary
	accepted map[string]event.Summary
	// The field left is the number of summaries that the server must still accept before the test kills it. The channel
	// enough is closed when this number reaches 0.
	left   int
	enough chan struct{}
	// killed is a channel that is closed after the server is killed.
	killed chan struct{}
}

// round prepares the next round, in which the server is killed once it has accepted the given number of summaries.
func (l *load) round(acceptances int) {
	l.left, l.enough, l.killed = acceptances, make(chan struct{}), make(chan struct{})
}

func (l *load) isKilled() bool {
	select {
	case <-l.killed:
		return true
	default:
		return false
	}
}

func (l *load) pop() (event.Summary, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return event.Summary{}, false
	}
	s := l.pending[len(l.pending)-1]
	l.pending = l.pending[:len(l.pending)-1]
	return s, true
}

// settle records the result of posting a summary.
func (l *load) settle(s event.Summary, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.pending = append(l.pending, s)
		return
	}
	l.accepted[s.ID] = s
	if l.left--; l.left == 0 {
		close(l.enough)
	}
}

// post posts summaries until all are accepted or the server is killed.
func (l *load) post(t *testing.T, c interface {
	Post(ctx context.Context, s event.Summary) error
}) {
	t.Helper()
	for s, ok := l.pop(); ok; s, ok = l.pop() {
		err := c.Post(context.Background(), s)
		l.settle(s, err)
		if err != nil {
			if _, passes := errors.AsType[*summary.UnavailableError](err); !passes {
				t.Errorf("summary %s: %v", s.ID, err)
				return
			}
			if l.isKilled() {
				return
			}
		}
	}
}

// TestSummaryServer_KilledRepeatedly_KeepsAcceptedSummaries kills a server repeatedly while clients post summaries. Summaries
// that the killed server did not accept are posted again. In the end each summary must be stored exactly once.
func TestSummaryServer_KilledRepeatedly_KeepsAcceptedSummaries(t *testing.T) {
	t.Parallel()
	const kills, posters, total = 5, 64, 6_000
	path := filepath.Join(t.TempDir(), "summaries.db")
	l := &load{pending: newVisits().batch(total), accepted: map[string]event.Summary{}}
	for range kills {
		server := startProcess(t, path)
		l.round(1 + rand.IntN(total/kills/2))
		finished := l.start(t, server.url, posters)
		<-l.enough
		server.kill(t)
		close(l.killed)
		<-finished
		checkDatabase(t, path, l.accepted, total)
	}
	server := startProcess(t, path)
	l.round(-1)
	<-l.start(t, server.url, posters)
	server.kill(t)
	if len(l.accepted) != total {
		t.Errorf("%d summaries were accepted in the end, want %d", len(l.accepted), total)
	}
	if stored := checkDatabase(t, path, l.accepted, total); stored != total {
		t.Errorf("%d summaries are stored in the end, want %d", stored, total)
	}
}

// start posts the pending summaries in the background. It creates an Embedded and an External client, and starts the
// given number of goroutines for each of them. It returns a channel that is closed when all goroutines have finished.
func (l *load) start(t *testing.T, url string, posters int) (finished chan struct{}) {
	t.Helper()
	embedded, err := client.NewEmbedded(client.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	external, err := client.NewExternal(client.Config{URL: url + "/v1/summaries"})
	if err != nil {
		t.Fatal(err)
	}
	finished = make(chan struct{})
	var wg sync.WaitGroup
	for range posters {
		wg.Go(func() { l.post(t, embedded) })
		wg.Go(func() { l.post(t, external) })
	}
	go func() {
		wg.Wait()
		_ = embedded.Close()
		_ = external.Close()
		close(finished)
	}()
	return finished
}

// checkDatabase opens the database as a restarted server does and returns the number of stored summaries. The database
// must contain at least the accepted summaries, and no more than were posted.
func checkDatabase(t *testing.T, path string, accepted map[string]event.Summary, posted int) int {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	stored := map[string]event.Summary{}
	rows := 0
	for q := (summary.Query{Limit: 1000}); ; {
		page, err := db.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Summaries {
			stored[s.ID] = s
			rows++
		}
		if page.Next.IsZero() {
			break
		}
		q.After = page.Next
	}
	for id, s := range accepted {
		if stored[id] != s {
			t.Errorf("summary %s was accepted as %v and is stored as %v", id, s, stored[id])
		}
	}
	if rows != len(stored) || rows > posted {
		t.Errorf("%d rows hold %d of %d summaries", rows, len(stored), posted)
	}
	if stats, err := db.Stats(t.Context()); err != nil || stats.Count != int64(rows) {
		t.Errorf("the totals count %d summaries (%v), and there are %d", stats.Count, err, rows)
	}
	checkIntegrity(t, path)
	return rows
}

func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var verdict string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("the database is damaged: %s (%v)", verdict, err)
	}
}
