package plan

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A file that is overwritten in place is incomplete for a moment, so the first error must not be logged.
func TestPollPlan_InvalidFile_IsLoggedAtTheSecondRead(t *testing.T) {
	t.Parallel()
	running := &Plan{
		Simulation: "a", Partitions: 1, QueueType: QueueTypeQuorum, MaxStay: Duration(time.Hour), Processor: Processor{Concurrency: 1},
		Entry: Entry{Schedule: Schedule{Arrivals: ArrivalsUniform}}, Exit: Exit{Schedule: Schedule{Arrivals: ArrivalsUniform}},
	}
	text, err := running.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	applied := 0
	w := watcher{
		path: filepath.Join(t.TempDir(), "plan.json"), role: RoleProcessor, started: running, running: running, log: slog.New(slog.NewTextHandler(&log, nil)),
		apply: func(*Plan) { applied++ },
	}
	poll := func(content string, complaints int) {
		t.Helper()
		if err := os.WriteFile(w.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		w.poll()
		if n := strings.Count(log.String(), "level=ERROR"); n != complaints {
			t.Errorf("%d complaints, want %d:\n%s", n, complaints, &log)
		}
	}
	whole := string(text)
	poll(whole, 0)
	poll(whole[:len(whole)/2], 0)
	poll(whole, 0)
	poll(whole[:len(whole)/2], 0)
	poll(whole[:len(whole)/2], 1)
	poll(whole[:len(whole)/2], 1)
	poll(whole, 1)
	poll("", 1)
	poll("", 2)
	poll(strings.Replace(whole, `"rate": 0`, `"rate": 5`, 1), 2)
	if applied != 1 {
		t.Errorf("%d plans were applied, want the one that differs", applied)
	}
}
