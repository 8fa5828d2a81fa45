package plan

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/parking-operator/parking-operator/internal/document"
)

// pollInterval is how often a plan file is looked at. Reading a small file costs microseconds, works on
// every file system, and sees through the symbolic links by which a kubelet updates a ConfigMap's volume.
const pollInterval = 200 * time.Millisecond

// Watch calls apply with each new plan that the file comes to hold, within a second of the edit, until ctx
// ends. Running is the plan that is already followed; apply is called for plans that differ from it and
// from each other, one at a time.
//
// An edit that is not a valid plan, or that changes what a simulation cannot follow, is logged with what is
// wrong, and the plan before it stays. So it does while the file cannot be read. A file that is found so once
// only was being written. Of an edit of where servers are, or of how many messages are processed at a time,
// it is logged that it takes effect at the next start, if a process of this role looks at it and does not have
// the value already.
func Watch(ctx context.Context, path string, role Role, running *Plan, log *slog.Logger, apply func(*Plan)) {
	w := watcher{path: path, role: role, started: running, running: running, log: log, apply: apply}
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
	role    Role
	started *Plan // whose values the process took at its start
	running *Plan
	log     *slog.Logger
	apply   func(*Plan)
	// text is what was last read, fault the last complaint: neither is repeated. Suspicion is a fault that was
	// found once.
	text             []byte
	fault, suspicion string
}

func (w *watcher) poll() {
	text, err := document.ReadFile(w.path)
	if err != nil {
		w.complain(err)
		return
	}
	if w.fault+w.suspicion == "" && bytes.Equal(text, w.text) {
		return
	}
	w.text = text
	next, err := w.running.successor(text)
	if err != nil {
		w.complain(err)
		return
	}
	w.fault, w.suspicion = "", ""
	if err := w.follow(next); err != nil {
		w.complain(err)
	}
}

// follow applies what of a plan can be followed, and says what of it cannot be yet.
func (w *watcher) follow(next *Plan) error {
	changed, err := w.running.changes(next)
	if err != nil {
		return err
	}
	differs, err := w.started.changes(next)
	if err != nil {
		return err
	}
	w.running = next
	followed := slices.DeleteFunc(slices.Clone(changed), waitsForStart)
	waiting := slices.DeleteFunc(changed, func(path string) bool {
		return !waitsForStart(path) || !w.role.needs(path) || !slices.Contains(differs, path)
	})
	if len(waiting) > 0 {
		w.log.Warn("the plan changed in what takes effect at the next start only: restart the process for it",
			"plan", w.path, "fields", strings.Join(waiting, " "))
	}
	if len(followed) > 0 {
		w.log.Info("the plan changed", "plan", w.path, "fields", strings.Join(followed, " "))
		w.apply(next)
	}
	return nil
}

// complain logs a fault once, when it is found for the second time in succession.
func (w *watcher) complain(err error) {
	switch fault := err.Error(); fault {
	case w.fault:
	case w.suspicion:
		w.fault = fault
		w.log.Error("the plan file cannot be used; the plan before stays in force", "plan", w.path, "error", err)
	default:
		w.suspicion = fault
	}
}

// successor parses the plan that is to follow p.
func (p *Plan) successor(text []byte) (*Plan, error) {
	next, err := Parse(text)
	if err != nil {
		return nil, err
	}
	return next, p.canBecome(next)
}

// canBecome refuses changes that would make events or visits of this simulation unfindable.
func (p *Plan) canBecome(next *Plan) error {
	for _, fixed := range p.fixed(next) {
		if fixed.before != fixed.after {
			return fmt.Errorf("%s: cannot change from %v to %v while the simulation runs: take %v again, or start another simulation",
				fixed.field, fixed.before, fixed.after, fixed.before)
		}
	}
	return nil
}

// fixedField is a field that cannot change, with its value in two plans.
type fixedField struct {
	field         string
	before, after any
}

func (p *Plan) fixed(next *Plan) []fixedField {
	return []fixedField{
		{"simulation", p.Simulation, next.Simulation},
		{"seed", p.Seed, next.Seed},
		{"partitions", p.Partitions, next.Partitions},
		{"queueType", p.QueueType, next.QueueType},
	}
}
