package simulate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/async"
	"github.com/parking-operator/parking-operator/internal/simulate/gate"
	"github.com/parking-operator/parking-operator/internal/timeline"
)

// process is a generator or a processor that a component runs. S is the type of the counts of the process.
type process[S any] interface {
	Run(ctx context.Context) error
	Stats() S
	Totals() timeline.Row
}

// life is the state of one process of a component. Each process has its own life value.
type life struct {
	// gate controls all calls of the process to the broker, the store and the summary API. It is nil if the plan has
	// no faults.
	gate *gate.Gate
	// The field metrics registers the metrics of the process. They are unregistered before the next process is created.
	metrics *metricsScope
	// restarted is true if the process replaces one that a fault has ended.
	restarted bool

	// stop ends the process. The channel ended is closed when the process has ended. The channel replaced is closed
	// when the next process has been created.
	stop            context.CancelCauseFunc
	ended, replaced chan struct{}
}

// errRestart is the cancellation cause for a graceful stop of a process that the component will replace.
var errRestart = errors.New("restart")

// component runs a process. When a fault has ended the process, component starts another process. component implements
// fault.Instance.
type component[P process[S], S any] struct {
	name       string
	create     func(*life) (P, error)
	registerer prometheus.Registerer
	// hasFaults is true if the plan has faults. Each process then needs a gate.
	hasFaults bool
	// merge adds the counts of the last process to the sum of the counts of all earlier processes.
	merge func(before, last S) S

	// over is closed when Run returns.
	over chan struct{}

	mu      sync.Mutex
	current P
	life    *life
	// pastCounts and pastTotals are the sums of the counts and of the measurements of all earlier processes. pastCounts
	// is nil if the current process is the first.
	pastCounts *S
	pastTotals timeline.Row
}

// Name implements fault.Instance.
func (c *component[P, S]) Name() string { return c.name }

func (c *component[P, S]) process() P {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

// Stats returns the counts since the start, summed over all processes that the component has run.
func (c *component[P, S]) Stats() S {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats()
}

func (c *component[P, S]) stats() S {
	counts := c.current.Stats()
	if c.pastCounts != nil {
		counts = c.merge(*c.pastCounts, counts)
	}
	return counts
}

// Totals returns the measurements since the start, summed over all processes that the component has run.
func (c *component[P, S]) Totals() timeline.Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.totals()
}

func (c *component[P, S]) totals() timeline.Row {
	if c.pastCounts == nil {
		return c.current.Totals()
	}
	return timeline.Sum(c.pastTotals, c.current.Totals())
}

// begin creates a process. If restarted is true, the created process replaces a process that a fault has ended.
func (c *component[P, S]) begin(restarted bool) error {
	l := &life{
		metrics: &metricsScope{Registerer: c.registerer}, restarted: restarted,
		ended: make(chan struct{}), replaced: make(chan struct{}),
	}
	if c.hasFaults {
		l.gate = gate.New()
	}
	if restarted {
		c.life.metrics.unregister()
	} else {
		c.over = make(chan struct{})
	}
	created, err := c.create(l)
	if err != nil {
		return fmt.Errorf("start the %s: %w", c.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if restarted {
		counts, totals := c.stats(), c.totals()
		// Gauges and lags are current values, not totals, so omit those of the ended process.
		totals.Gauges, totals.Entry.Lag, totals.Exit.Lag = timeline.Gauges{}, 0, 0
		c.pastCounts, c.pastTotals = &counts, totals
	}
	c.current, c.life = created, l
	return nil
}

// Run runs the process until ctx ends or the process ends by itself. If a fault ends the process, Run starts another
// process after gate.DownTime.
func (c *component[P, S]) Run(ctx context.Context) error {
	defer close(c.over)
	for {
		living, stop := context.WithCancelCause(ctx)
		c.mu.Lock()
		p, l := c.current, c.life
		l.stop = stop
		c.mu.Unlock()
		err := p.Run(living)
		cause := context.Cause(living)
		stop(nil)
		close(l.ended)
		if !errors.Is(cause, errRestart) && !errors.Is(cause, async.ErrKilled) {
			return err
		}
		start := time.NewTimer(gate.DownTime)
		select {
		case <-start.C:
		case <-ctx.Done():
			start.Stop()
			// This is not an error: the broker redelivers unsettled messages, and unconfirmed events count as
			// indeterminate.
			return nil
		}
		if err := c.begin(true); err != nil {
			return err
		}
		close(l.replaced)
	}
}

// alive returns the state of the current process. It returns an error if that process is not running.
func (c *component[P, S]) alive() (*life, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.life.ended:
	default:
		if c.life.stop != nil {
			return c.life, nil
		}
	}
	return nil, fmt.Errorf("the %s is not running", c.name)
}

// Stop implements fault.Instance. It ends the process, which Run then replaces. If crash is true, the process does not
// finish its work, and its further calls to servers fail.
func (c *component[P, S]) Stop(ctx context.Context, crash bool, _ uint64) (started func(context.Context) error, err error) {
	l, err := c.alive()
	if err != nil {
		return nil, err
	}
	cause := errRestart
	if crash {
		cause = async.ErrKilled
		l.gate.Kill()
	}
	l.stop(cause)
	if err := closed(ctx, l.ended); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.awaitReplacement(ctx, l) }, nil
}

// awaitReplacement waits until another process replaces the process of l. It returns an error if ctx ends or the
// component stops first.
func (c *component[P, S]) awaitReplacement(ctx context.Context, l *life) error {
	select {
	case <-l.replaced:
		return nil
	case <-c.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-l.replaced:
		return nil
	default:
		return errors.New("the schedule ended before the instance could start")
	}
}

// closed waits until the channel c is closed. It returns an error if ctx ends first.
func closed(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pause implements fault.Instance. It blocks all calls of the process to the broker, the store and the summary API.
func (c *component[P, S]) Pause(ctx context.Context) (release func() error, err error) {
	l, err := c.alive()
	if err != nil {
		return nil, err
	}
	return l.gate.Pause(ctx)
}

// Isolate implements fault.Instance. It cuts the connections of the process.
func (c *component[P, S]) Isolate(ctx context.Context) (release func() error, err error) {
	l, err := c.alive()
	if err != nil {
		return nil, err
	}
	return l.gate.Isolate(ctx)
}

// metricsScope is a registerer that can unregister everything that was registered with it.
type metricsScope struct {
	prometheus.Registerer

	registered []prometheus.Collector
}

func (s *metricsScope) Register(c prometheus.Collector) error {
	err := s.Registerer.Register(c)
	if err == nil {
		s.registered = append(s.registered, c)
	}
	return err
}

func (s *metricsScope) unregister() {
	for _, c := range s.registered {
		s.Unregister(c)
	}
}
