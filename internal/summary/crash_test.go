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

// envDatabase is the name of an environment variable. If this variable contains the path of a database, the test binary
// serves that database instead of running tests.
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

// runServer stops when the standard input is closed, so that it does not outlive the test.
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

// process is a child process that runs an HTTP server.
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
	_ = p.command.Wait() // always fails, because the process was killed
}

// load contains the summaries that clients post to a server, which the test kills repeatedly.
type load struct {
	mu       sync.Mutex
	pending  []event.Summary // the summaries that must still be posted
	accepted map[string]event.Summary
	left     int           // how many summaries the server must still accept before the test kills the server
	enough   chan struct{} // closed when the field left becomes 0
	killed   chan struct{} // closed after the server is killed
}

// round sets how many summaries a new server process accepts before the test kills it.
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

// settle records whether the server has accepted a summary. If not, the summary must be posted again.
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

// post posts pending summaries until none is pending or the server is killed.
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

// start posts the pending summaries in the background. The returned channel is closed when all goroutines have
// finished.
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

// checkDatabase returns the number of rows. It fails the test if an accepted summary is missing, or if there are more
// rows than posted summaries.
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
		t.Errorf("%d rows contain %d different summaries; %d were posted", rows, len(stored), posted)
	}
	if stats, err := db.Stats(t.Context()); err != nil || stats.Count != int64(rows) {
		t.Errorf("Stats returned the count %d (%v), want %d", stats.Count, err, rows)
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
		t.Errorf("the result of the integrity check is %s (%v), want ok", verdict, err)
	}
}
