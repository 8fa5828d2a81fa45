package plan_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/plan/plantest"
)

// buffer stores log lines. It is safe for concurrent use.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	// written receives a value when the log has a new line.
	written chan struct{}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.written <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// watched is a running call of Watch: the plan file, the applied plans and the log.
type watched struct {
	path    string
	applied <-chan *plan.Plan
	log     *buffer
}

func watch(t *testing.T, path string, running *plan.Plan) watched {
	t.Helper()
	return watchAs(t, plan.RoleProcessor, path, running)
}

func watchAs(t *testing.T, role plan.Role, path string, running *plan.Plan) watched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	applied, done, log := make(chan *plan.Plan, 16), make(chan struct{}), &buffer{written: make(chan struct{}, 1)}
	go func() {
		defer close(done)
		plan.Watch(ctx, path, role, running, slog.New(slog.NewTextHandler(log, nil)), func(p *plan.Plan) { applied <- p })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return watched{path: path, applied: applied, log: log}
}

// next waits until Watch applies a plan, and returns that plan.
func (w watched) next(t *testing.T) *plan.Plan {
	t.Helper()
	select {
	case p := <-w.applied:
		return p
	case <-time.After(5 * time.Minute):
		t.Fatalf("no plan was applied; the log:\n%s", w.log)
		return nil
	}
}

// waitLogged waits until the log contains the text.
func (w watched) waitLogged(t *testing.T, text string) {
	t.Helper()
	for deadline := time.After(5 * time.Minute); !strings.Contains(w.log.String(), text); {
		select {
		case <-w.log.written:
		case <-deadline:
			t.Fatalf("%q was not logged; the log:\n%s", text, w.log)
		}
	}
}

func withRate(rate int64) *plan.Plan {
	p := full()
	p.Entry.Rate = rate
	return p
}

func write(t *testing.T, p *plan.Plan, path string) {
	t.Helper()
	if err := plantest.Write(p, path); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatchPlan_AppliesEachEdit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	// The file already differs from the plan with which the process started.
	write(t, withRate(100), path)
	w := watch(t, path, full())
	for _, rate := range []int64{100, 200, 0} {
		write(t, withRate(rate), path)
		if diff := cmp.Diff(withRate(rate), w.next(t)); diff != "" {
			t.Errorf("the applied plan (-want +got):\n%s", diff)
		}
	}
}

func TestWatchPlan_InvalidEdit_KeepsThePlan(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	write(t, full(), path)
	w := watch(t, path, full())

	overwrite(t, path, edited(t, -1, "entry", "rate"))
	w.waitLogged(t, "entry.rate: Invalid value: -1: must be from 0 to 1000000 events per second")
	overwrite(t, path, "{")
	w.waitLogged(t, "not valid JSON")
	overwrite(t, path, edited(t, 3, "partitions"))
	w.waitLogged(t, "partitions: cannot change from 2 to 3 while the simulation runs")
	overwrite(t, path, edited(t, 43, "seed"))
	w.waitLogged(t, "seed: cannot change from 42 to 43 while the simulation runs")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.waitLogged(t, "no such file")

	write(t, withRate(7), path)
	if diff := cmp.Diff(withRate(7), w.next(t)); diff != "" {
		t.Errorf("the plan applied after the invalid edits (-want +got):\n%s", diff)
	}
	if n := strings.Count(w.log.String(), "no such file"); n != 1 {
		t.Errorf("a missing file was logged %d times, want once", n)
	}
}

func TestWatchPlan_EditWithoutEffect_IsIgnored(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	write(t, full(), path)
	w := watch(t, path, full())
	overwrite(t, path, edited(t, 42, "seed")) // the seed is already 42, so only the white space changes
	write(t, withRate(7), path)
	if got := w.next(t); got.Entry.Rate != 7 {
		t.Errorf("the plan with rate %d was applied, want only the plan with rate 7", got.Entry.Rate)
	}
}

// The kubelet writes each version of a ConfigMap to a new directory, and then replaces the symbolic link ..data to it.
func TestWatchPlan_ConfigMapVolume_AppliesEachVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	publish := func(version string, p *plan.Plan) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, p, filepath.Join(dir, version, "plan.json"))
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	publish("..2026_1", full())
	path := filepath.Join(dir, "plan.json")
	if err := os.Symlink(filepath.Join("..data", "plan.json"), path); err != nil {
		t.Fatal(err)
	}
	w := watch(t, path, full())
	publish("..2026_2", withRate(9))
	if got := w.next(t); got.Entry.Rate != 9 {
		t.Errorf("a plan with rate %d was applied, want 9", got.Entry.Rate)
	}
}

func TestWatchPlan_EditThatNeedsARestart_IsLogged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	write(t, full(), path)
	w := watch(t, path, full())
	moved := full()
	moved.Redis.URI, moved.SummaryAPI.URL, moved.Processor.Concurrency = "redis://:hunter2@elsewhere", "https://example.com/v2", 1
	write(t, moved, path)
	w.waitLogged(t, `level=WARN msg="Some changes of the plan take effect at the next start`)
	w.waitLogged(t, `fields="processor.concurrency redis.uri summaryAPI.url"`)
	moved.Entry.Rate, moved.Exit.Stages, moved.RabbitMQ.SecretDir = 7, []plan.Stage{{Duration: 1, Rate: 1}}, "/elsewhere"
	write(t, moved, path)
	if got := w.next(t); got.Entry.Rate != 7 {
		t.Errorf("the plan with rate %d was applied, want only the plan with rate 7", got.Entry.Rate)
	}
	w.waitLogged(t, `fields=rabbitmq.secretDir`)
	w.waitLogged(t, `level=INFO msg="The plan changed" plan=`+path+` fields="entry.rate exit.stages"`)
	if strings.Contains(w.log.String(), "hunter2") {
		t.Errorf("a password is in the log:\n%s", w.log)
	}
}

func TestWatchPlan_EditOfUnusedField_NeedsNoRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "plan.json")
	write(t, full(), path)
	w := watchAs(t, plan.RoleGenerator, path, full())
	// edit changes the rate, the Redis URI, and two fields that a generator does not use.
	edit := func(rate int64, redis string) {
		t.Helper()
		next := withRate(rate)
		next.Redis.URI, next.SummaryAPI.URL, next.Processor.Concurrency = redis, "https://example.com/v2", 1
		write(t, next, path)
		w.next(t)
	}
	edit(1, full().Redis.URI)
	if strings.Contains(w.log.String(), "restart") {
		t.Errorf("a generator asks for a restart after an edit of fields that a generator does not use:\n%s", w.log)
	}
	edit(2, "redis://elsewhere")
	w.waitLogged(t, `fields=redis.uri`)
	edit(3, full().Redis.URI)
	if n := strings.Count(w.log.String(), "restart"); n != 1 {
		t.Errorf("the log asks for a restart %d times, want once, because the last edit restores the Redis URI in use:\n%s", n, w.log)
	}
}
