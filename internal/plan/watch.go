package plan

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"
)

// pollInterval is how often a plan file is looked at. Reading a small file costs microseconds, works on
// every file system, and sees through the symbolic links by which a kubelet updates a ConfigMap's volume.
const pollInterval = 200 * time.Millisecond

// Watch calls apply with each new plan that the file comes to hold, within a second of the edit, until ctx
// ends. Running is the plan that is already followed; apply is called for plans that differ from it and
// from each other, one at a time.
//
// An edit that is not a valid plan, or that changes what a running process cannot follow, is logged with
// what is wrong, and the plan before it stays. So it does while the file cannot be read.
func Watch(ctx context.Context, path string, running *Plan, log *slog.Logger, apply func(*Plan)) {
	w := watcher{path: path, running: running, log: log, apply: apply}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		w.poll()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

type watcher struct {
	path    string
	running *Plan
	log     *slog.Logger
	apply   func(*Plan)
	// text is what was last read, fault the last complaint: neither is repeated.
	text  []byte
	fault string
}

func (w *watcher) poll() {
	text, err := readFile(w.path)
	if err != nil {
		w.complain(err)
		return
	}
	if w.fault == "" && bytes.Equal(text, w.text) {
		return
	}
	w.text = text
	next, err := w.running.successor(text)
	if err != nil {
		w.complain(err)
		return
	}
	w.fault = ""
	if next != nil {
		w.running = next
		w.log.Info("the plan changed", "plan", w.path)
		w.apply(next)
	}
}

// complain logs a fault once.
func (w *watcher) complain(err error) {
	if err.Error() != w.fault {
		w.fault = err.Error()
		w.log.Error("the plan file cannot be used; the plan before stays in force", "plan", w.path, "error", err)
	}
}

// successor parses the plan that is to follow p; nil if it is the same.
func (p *Plan) successor(text []byte) (*Plan, error) {
	next, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if err := p.canBecome(next); err != nil {
		return nil, err
	}
	before, err := p.Marshal()
	if err != nil {
		return nil, err
	}
	after, err := next.Marshal()
	if err != nil || bytes.Equal(before, after) {
		return nil, err
	}
	return next, nil
}

// canBecome refuses changes that would make events or visits of this simulation unfindable.
func (p *Plan) canBecome(next *Plan) error {
	for _, fixed := range []struct {
		field         string
		before, after any
	}{
		{"simulation", p.Simulation, next.Simulation},
		{"seed", p.Seed, next.Seed},
		{"partitions", p.Partitions, next.Partitions},
		{"queueType", p.QueueType, next.QueueType},
	} {
		if fixed.before != fixed.after {
			return fmt.Errorf("%s: cannot change from %v to %v while the simulation runs: take %v again, or start another simulation",
				fixed.field, fixed.before, fixed.after, fixed.before)
		}
	}
	return nil
}
