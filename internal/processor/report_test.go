package processor

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/logtest"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestReporter_LogsFailuresOfOneKindTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := new(logtest.Buffer)
		r := newReporter(log.Logger())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { r.run(ctx); close(ended) }()

		post := problem{level: slog.LevelWarn, message: "failed", eventType: event.TypeExit, stage: StagePost}
		const seconds, perSecond = 3, 10_000
		for range seconds {
			for range perSecond {
				r.report(post, "connection refused")
			}
			time.Sleep(time.Second)
		}
		r.report(problem{level: slog.LevelWarn, message: "failed", eventType: event.TypeExit, stage: StageStore}, "")
		cancel()
		<-ended

		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if got := len(lines); got > 1+seconds+1 {
			t.Errorf("%d lines, want at most the first failure, one line per second and one of the other kind:\n%s", got, log)
		}
		total := 0
		for _, line := range lines {
			var count int
			if _, err := fmt.Sscanf(line[strings.Index(line, "count="):], "count=%d", &count); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			total += count
		}
		if want := seconds*perSecond + 1; total != want {
			t.Errorf("the counts add up to %d, want %d:\n%s", total, want, log)
		}
		if !strings.Contains(log.String(), `error="connection refused"`) {
			t.Errorf("the lines lack the error:\n%s", log)
		}
	})
}

func TestReporter_ProblemRecursAfterAQuietInterval_IsLoggedAtOnce(t *testing.T) {
	t.Parallel()
	log := new(logtest.Buffer)
	r := newReporter(log.Logger())
	for range 3 {
		r.report(problem{message: "failed"}, "")
		r.flush() // the reporter forgets the problem, because it has not recurred since it was logged
		if len(r.open) != 0 {
			t.Errorf("%d problems are open after an interval without problems", len(r.open))
		}
	}
	if got := strings.Count(log.String(), "count=1"); got != 3 {
		t.Errorf("%d lines, want 3:\n%s", got, log)
	}
}

func BenchmarkReporter_Report(b *testing.B) {
	r := newReporter(discard())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.report(problem{level: slog.LevelWarn, message: "failed", eventType: event.TypeExit, stage: StagePost}, "refused")
		}
	})
}
