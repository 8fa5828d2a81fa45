package summary

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
)

const (
	// maxCommitRows is the number of summaries from which on a transaction takes in no further request:
	// enough to make the cost of a commit small against that of its rows, and done in some 30 ms.
	maxCommitRows = 4096
	// queueLength bounds the requests that wait for the writer; further callers block.
	queueLength = 1024
	// retryAfter is how long callers are asked to wait when the database fails: most of its faults take an
	// operator to end.
	retryAfter = time.Second
	// postTimeout bounds a Post: far more than a transaction takes on a disk that works.
	postTimeout = 10 * time.Second
)

// Service stores summaries for concurrent callers. A single writer commits what gathered while its
// previous transaction was under way; a lone summary is committed at once.
type Service struct {
	db      Database
	log     *slog.Logger
	metrics *instruments

	queue chan *request
	// closing is closed when no further requests are taken, stopped when the writer has left.
	closing, stopped chan struct{}
	close            func() error
	requests         sync.Pool
}

// request is what one caller wants stored.
type request struct {
	summaries []event.Summary
	outcomes  []Outcome
	// done receives the writer's answer. It has room for it, so that the writer never waits for a caller
	// that has left.
	done chan error

	// one and outcome are room for a request of a single summary, timer ends the wait for it.
	one     [1]event.Summary
	outcome [1]Outcome
	timer   *time.Timer
}

func newRequest() *request {
	timer := time.NewTimer(0)
	timer.Stop()
	return &request{done: make(chan error, 1), timer: timer}
}

// New returns a service that owns db, with its writer started. It ends with Close.
func New(db Database, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	in, err := newInstruments(reg)
	if err != nil {
		return nil, err
	}
	s := &Service{
		db: db, log: log, metrics: in,
		queue:   make(chan *request, queueLength),
		closing: make(chan struct{}), stopped: make(chan struct{}),
		requests: sync.Pool{New: func() any { return newRequest() }},
	}
	s.close = sync.OnceValue(func() error {
		close(s.closing)
		<-s.stopped
		return s.db.Close()
	})
	go s.write()
	return s, nil
}

// Store stores the summaries and returns the outcome of each, in their order. They are durable when it
// returns.
//
// A *RejectedError says that one of them does not pass Validate, and that none is stored. Any other error
// means that none is known to be stored, and that they can be stored again: an *UnavailableError of the
// database, or that of ctx. After an error of ctx the writer may still read the slice, which must then not
// be changed.
func (s *Service) Store(ctx context.Context, summaries []event.Summary) ([]Outcome, error) {
	for i := range summaries {
		if err := Validate(summaries[i]); err != nil {
			return nil, err
		}
	}
	r := &request{summaries: summaries, outcomes: make([]Outcome, len(summaries)), done: make(chan error, 1)}
	if err := s.submit(ctx, r, nil); err != nil {
		return nil, err
	}
	return r.outcomes, nil
}

// Post stores one summary. It returns nil if the summary is stored, now or before; a *RejectedError if it
// cannot be, or if another one stands under its identifier; and else an error as Store does. It takes some
// seconds at most, even if the database hangs.
func (s *Service) Post(ctx context.Context, summary event.Summary) error {
	if err := Validate(summary); err != nil {
		return err
	}
	r := s.requests.Get().(*request) //nolint:forcetypeassert // nothing else is ever put there
	r.one[0] = summary
	r.summaries, r.outcomes = r.one[:], r.outcome[:]
	r.timer.Reset(postTimeout)
	err := s.submit(ctx, r, r.timer.C)
	r.timer.Stop()
	if err != nil {
		return err // and leave r to the writer, which may still hold it
	}
	outcome := r.outcomes[0]
	s.requests.Put(r)
	if outcome == Conflicting {
		return Conflict()
	}
	return nil
}

// Ready returns nil if the database can be written to, by writing to it.
func (s *Service) Ready(ctx context.Context) error {
	_, err := s.Store(ctx, nil)
	return err
}

// Find returns the summary with this identifier, and whether there is one.
func (s *Service) Find(ctx context.Context, id string) (event.Summary, bool, error) {
	found, ok, err := s.db.Find(ctx, id)
	return found, ok, unavailable(err)
}

// List returns a page of the query's results.
func (s *Service) List(ctx context.Context, q Query) (Page, error) {
	page, err := s.db.List(ctx, q)
	return page, unavailable(err)
}

// Stats describes everything that is stored.
func (s *Service) Stats(ctx context.Context) (Stats, error) {
	stats, err := s.db.Stats(ctx)
	return stats, unavailable(err)
}

// Close stores what was submitted before and closes the database. Calls that come later fail with ErrClosed.
func (s *Service) Close() error { return s.close() }

// submit hands a request to the writer and waits for its answer, until ctx or time ends.
func (s *Service) submit(ctx context.Context, r *request, timeout <-chan time.Time) error {
	select {
	case s.queue <- r:
	case <-s.closing:
		return errServiceClosed()
	case <-ctx.Done():
		return fmt.Errorf("wait for the database: %w", ctx.Err())
	case <-timeout:
		return unavailable(errHangs)
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the database: %w", ctx.Err())
	case <-timeout:
		return unavailable(errHangs)
	case <-s.stopped:
	}
	select {
	case err := <-r.done:
		return err
	default: // queued as the writer left
		return errServiceClosed()
	}
}

// errHangs is the cause when the database does not answer in time.
var errHangs = errors.New("the database of summaries hangs; look at its volume")

func errServiceClosed() error {
	return &UnavailableError{Err: fmt.Errorf("the summary service is %w", ErrClosed), After: retryAfter}
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &UnavailableError{Err: err, After: retryAfter}
}

// write is the writer.
func (s *Service) write() {
	defer close(s.stopped)
	w := writer{Service: s}
	for {
		select {
		case r := <-s.queue:
			w.commit(r)
		case <-s.closing:
			w.drain()
			return
		}
	}
}

// writer is the state of the goroutine that writes.
type writer struct {
	*Service
	// group, summaries and outcomes are those of the transaction under way.
	group     []*request
	summaries []event.Summary
	outcomes  []Outcome
	// failing is whether the last transaction failed.
	failing bool
}

// drain commits what is queued.
func (w *writer) drain() {
	for {
		select {
		case r := <-w.queue:
			w.commit(r)
		default:
			return
		}
	}
}

// commit stores the request, together with those that are queued behind it, and answers them.
func (w *writer) commit(r *request) {
	w.gather(r)
	start := time.Now()
	err := w.db.Insert(context.Background(), w.summaries, w.outcomes)
	w.observe(time.Since(start), err)
	w.answer(unavailable(err))
}

// gather collects the group of a transaction.
func (w *writer) gather(r *request) {
	w.group, w.summaries = w.group[:0], w.summaries[:0]
	w.take(r)
	for len(w.summaries) < maxCommitRows {
		select {
		case r := <-w.queue:
			w.take(r)
			continue
		default:
		}
		break
	}
	w.outcomes = append(w.outcomes[:0], make([]Outcome, len(w.summaries))...)
}

func (w *writer) take(r *request) {
	w.group = append(w.group, r)
	w.summaries = append(w.summaries, r.summaries...)
}

// answer gives each request of the group its share of the outcomes.
func (w *writer) answer(err error) {
	rest := w.outcomes
	for _, r := range w.group {
		n := len(r.summaries)
		copy(r.outcomes, rest[:n])
		rest = rest[n:]
		r.done <- err
	}
	clear(w.group) // so that idleness keeps nothing alive
	clear(w.summaries)
}

// observe measures a transaction, and logs when its database begins or ceases to fail.
func (w *writer) observe(took time.Duration, err error) {
	if err != nil {
		w.metrics.commitFailures.Inc()
		if !w.failing {
			w.log.Error("summaries cannot be stored; callers are told to come again", "error", err)
		}
		w.failing = true
		return
	}
	if w.failing {
		w.log.Info("summaries can be stored again")
	}
	w.failing = false
	if len(w.summaries) == 0 { // a probe
		return
	}
	w.metrics.commitRows.Observe(float64(len(w.summaries)))
	w.metrics.commitSeconds.Observe(took.Seconds())
	w.metrics.count(w.outcomes)
}
