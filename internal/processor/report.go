package processor

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
)

// reportInterval is the minimum interval between two log lines about the same kind of problem.
const reportInterval = time.Second

// problem identifies a kind of problem. Each kind has its own log line, so there must be few kinds.
type problem struct {
	level     slog.Level
	message   string
	eventType event.Type
	stage     Stage // where processing failed; empty if it did not fail
}

type occurrences struct {
	count  int
	latest string
}

// reporter logs problems at a limited rate. It logs the first occurrence of a kind at once, and the number of further
// occurrences once per interval.
type reporter struct {
	log *slog.Logger

	mu   sync.Mutex
	open map[problem]*occurrences

	panicked sync.Once
}

func newReporter(log *slog.Logger) *reporter {
	return &reporter{log: log, open: make(map[problem]*occurrences)}
}

// run logs the collected problems once per interval, and once more when ctx ends.
func (r *reporter) run(ctx context.Context) {
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.flush()
		case <-ctx.Done():
			r.flush()
			return
		}
	}
}

// report counts an occurrence of a problem. detail must not quote the body of a message, because plates may be logged
// only at debug level.
func (r *reporter) report(p problem, detail string) {
	r.mu.Lock()
	o, open := r.open[p]
	if !open {
		r.open[p] = &occurrences{}
	} else {
		o.count++
		o.latest = detail
	}
	r.mu.Unlock()
	if !open {
		r.write(p, occurrences{count: 1, latest: detail})
	}
}

// flush logs the new occurrences. It forgets a problem that has not recurred since the last flush.
func (r *reporter) flush() {
	r.mu.Lock()
	due := make(map[problem]occurrences)
	for p, o := range r.open {
		if o.count == 0 {
			delete(r.open, p)
			continue
		}
		due[p] = *o
		*o = occurrences{}
	}
	r.mu.Unlock()
	for p, o := range due {
		r.write(p, o)
	}
}

func (r *reporter) write(p problem, o occurrences) {
	attrs := []slog.Attr{slog.String("event_type", string(p.eventType)), slog.Int("count", o.count)}
	if p.stage != "" {
		attrs = append(attrs, slog.String("stage", string(p.stage)))
	}
	if o.latest != "" {
		attrs = append(attrs, slog.String("error", o.latest))
	}
	r.log.LogAttrs(context.Background(), p.level, p.message, attrs...)
}

// reportPanic logs the first panic, with the stack. Call it in the deferred function that recovers: there, the stack
// still shows the origin.
func (r *reporter) reportPanic(t event.Type, value any) {
	r.panicked.Do(func() {
		r.log.Error("A handler panicked; its message is dead-lettered and processing continues",
			"event_type", t, "panic", value, "stack", string(debug.Stack()))
	})
}
