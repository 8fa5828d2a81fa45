package processor

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
)

// reportInterval is how often one kind of problem may be logged, beyond its first occurrence.
const reportInterval = time.Second

// problem is one kind of thing that operators should know of. Occurrences of the same kind are counted
// and logged together, so that no rate of failures floods the log. Its fields take few values each.
type problem struct {
	level     slog.Level
	message   string
	eventType event.Type
	stage     Stage // empty if it is not a failure
}

// occurrences of a problem since it was last logged.
type occurrences struct {
	count  int
	latest string
}

// reporter logs problems: the first of a kind at once, those that follow once an interval.
type reporter struct {
	log *slog.Logger

	mu   sync.Mutex
	open map[problem]*occurrences

	panicked sync.Once
}

func newReporter(log *slog.Logger) *reporter {
	return &reporter{log: log, open: make(map[problem]*occurrences)}
}

// run logs what has gathered once an interval, until ctx ends, and then the rest.
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

// report counts an occurrence of a problem. Detail is of one occurrence among many, and must not quote a
// message: plates do not belong into logs above the debug level.
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

// flush logs the problems that occurred since the last flush, and closes those that did not.
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

// reportPanic logs the first panic with its stack. The others are counted like any failure.
// It is to be called where the panic is recovered.
func (r *reporter) reportPanic(t event.Type, value any) {
	r.panicked.Do(func() {
		r.log.Error("a handler panicked; the message is dead-lettered and everything else goes on",
			"event_type", t, "panic", value, "stack", string(debug.Stack()))
	})
}
