package summary

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/outage"
)

const (
	// maxCommitRows is the number of summaries from which a transaction takes no further requests. Such a transaction
	// lasts about 30 ms.
	maxCommitRows = 4096
	// queueLength is the maximum number of requests that wait for the writer goroutine. Further callers block.
	queueLength = 1024
	// retryAfter is how long callers should wait before they retry after a failure of the database.
	retryAfter = time.Second
	// postTimeout is the timeout of Post. A transaction on a healthy disk takes far less time.
	postTimeout = 10 * time.Second
	// transactions is the name of database transactions in the outage log; see outage.Log.Fault.
	transactions = "transactions"
)

// Service stores summaries for concurrent callers. A single goroutine, the writer, commits their requests. Requests
// that arrive during a transaction share the next one.
type Service struct {
	db      Database
	outages *outage.Log
	metrics *serviceMetrics

	queue chan *request
	// The channel named closing is closed when the service accepts no more requests. The channel named stopped is
	// closed when the writer has ended.
	closing, stopped chan struct{}
	close            func() error
	// failure is the error of the latest transaction, or nil if that transaction succeeded.
	failure atomic.Pointer[error]
	created atomic.Int64
	// requests is a pool of reusable requests for the method Post.
	requests sync.Pool
}

// request asks the writer to store the summaries of one caller.
type request struct {
	summaries []event.Summary
	outcomes  []Outcome
	// The channel named done receives the error of the transaction, or nil. It is buffered, so that the writer never
	// blocks.
	done chan error

	// Post uses these fields to save allocations. Store does not use them.
	one     [1]event.Summary
	outcome [1]Outcome
	timer   *time.Timer
}

func newRequest() *request {
	timer := time.NewTimer(0)
	timer.Stop()
	return &request{done: make(chan error, 1), timer: timer}
}

// New returns a service and starts its writer. Service.Close also closes db.
func New(db Database, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	m, err := newServiceMetrics(reg)
	if err != nil {
		return nil, err
	}
	s := &Service{
		db: db, metrics: m,
		outages: outage.New(log, "Summaries cannot be stored; clients must retry", "Summaries can be stored again"),
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

// Store stores the summaries in one durable transaction and returns their outcomes, in the same order. If Validate
// rejects a summary, Store stores nothing and returns a *RejectedError.
//
// Any other error is an *UnavailableError or wraps the error of ctx. After such an error, the summaries may or may not
// be stored, and the caller can retry.
//
// After an error of ctx, the caller must not change the slice, because the service may still read it.
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

// Post stores one summary in at most 10 s. Besides the errors of Store, it returns a *RejectedError if the summary
// conflicts with a stored one.
func (s *Service) Post(ctx context.Context, summary event.Summary) error {
	if err := Validate(summary); err != nil {
		return err
	}
	r := s.requests.Get().(*request) //nolint:forcetypeassert // the pool contains only requests
	r.one[0] = summary
	r.summaries, r.outcomes = r.one[:], r.outcome[:]
	r.timer.Reset(postTimeout)
	err := s.submit(ctx, r, r.timer.C)
	r.timer.Stop()
	if err != nil {
		return err // do not put r back into the pool: the writer goroutine may still use it
	}
	outcome := r.outcomes[0]
	s.requests.Put(r)
	if outcome == Conflicting {
		return Conflict()
	}
	return nil
}

// Ready returns nil if a write to the database succeeds. If ctx ends first, the error of the latest transaction takes
// precedence over that of ctx.
func (s *Service) Ready(ctx context.Context) error {
	_, err := s.Store(ctx, nil)
	if latest := s.failure.Load(); err != nil && ctx.Err() != nil && latest != nil {
		return *latest
	}
	return err
}

// Find returns the summary with the given identifier, and whether it exists.
func (s *Service) Find(ctx context.Context, id string) (event.Summary, bool, error) {
	found, ok, err := s.db.Find(ctx, id)
	return found, ok, unavailable(err)
}

// List returns one page of a query's results.
func (s *Service) List(ctx context.Context, q Query) (Page, error) {
	page, err := s.db.List(ctx, q)
	return page, unavailable(err)
}

// Stats returns totals over all stored summaries.
func (s *Service) Stats(ctx context.Context) (Stats, error) {
	stats, err := s.db.Stats(ctx)
	return stats, unavailable(err)
}

// Created returns how many summaries this service has added to the database. Other processes can add more.
func (s *Service) Created() int64 { return s.created.Load() }

// Close commits all pending requests and closes the database. After Close, every call that needs the database returns
// an error that wraps ErrClosed.
func (s *Service) Close() error { return s.close() }

// submit sends a request to the writer and waits for the result. It stops waiting if ctx ends, or if a value arrives on
// the channel named timeout.
func (s *Service) submit(ctx context.Context, r *request, timeout <-chan time.Time) error {
	select {
	case s.queue <- r:
	case <-s.closing:
		return errServiceClosed()
	case <-ctx.Done():
		return fmt.Errorf("wait for the database: %w", ctx.Err())
	case <-timeout:
		return unavailable(s.errHangs())
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the database: %w", ctx.Err())
	case <-timeout:
		return unavailable(s.errHangs())
	case <-s.stopped:
	}
	select {
	case err := <-r.done:
		return err
	default: // the writer had already ended when the request was queued
		return errServiceClosed()
	}
}

// errHangs returns the error of a database that did not respond in time.
func (s *Service) errHangs() error {
	return fmt.Errorf("the summary database, %s, does not respond", s.db)
}

func errServiceClosed() error {
	return &UnavailableError{Err: fmt.Errorf("the summary service is %w", ErrClosed), After: retryAfter}
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &UnavailableError{Err: err, After: retryAfter}
}

// write is the main loop of the writer goroutine. It commits requests until the service is closed.
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

// writer is the state of the writer goroutine.
type writer struct {
	*Service
	// summaries contains the summaries of all requests in group, in the same order. outcomes contains their outcomes.
	group     []*request
	summaries []event.Summary
	outcomes  []Outcome
}

// drain commits all queued requests.
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

// commit stores the summaries of r and of the queued requests in one transaction. It then reports the result to the
// callers.
func (w *writer) commit(r *request) {
	w.gather(r)
	start := time.Now()
	err := w.db.Insert(context.Background(), w.summaries, w.outcomes)
	w.observe(time.Since(start), err)
	w.answer(unavailable(err))
}

// gather adds the request r to the current transaction. It then adds queued requests, until the transaction has at
// least maxCommitRows summaries or no request is queued.
func (w *writer) gather(r *request) {
	w.group, w.summaries = w.group[:0], w.summaries[:0]
	w.add(r)
	for len(w.summaries) < maxCommitRows {
		select {
		case r := <-w.queue:
			w.add(r)
			continue
		default:
		}
		break
	}
	w.outcomes = append(w.outcomes[:0], make([]Outcome, len(w.summaries))...)
}

func (w *writer) add(r *request) {
	w.group = append(w.group, r)
	w.summaries = append(w.summaries, r.summaries...)
}

// answer reports to each caller the outcomes of its summaries, or err if the transaction failed.
func (w *writer) answer(err error) {
	rest := w.outcomes
	for _, r := range w.group {
		n := len(r.summaries)
		copy(r.outcomes, rest[:n])
		rest = rest[n:]
		r.done <- err
	}
	clear(w.group) // an idle writer must not keep requests in memory
	clear(w.summaries)
}

// observe reports the duration and the error of a transaction to the metrics and to the log of outages.
func (w *writer) observe(took time.Duration, err error) {
	if err != nil {
		w.failure.Store(&err)
		w.metrics.commitFailures.Inc()
		w.outages.Fault(transactions, err)
		return
	}
	w.failure.Store(nil)
	w.outages.Fine(transactions)
	if len(w.summaries) == 0 { // the metrics do not count readiness probes, which send no summaries
		return
	}
	w.metrics.commitRows.Observe(float64(len(w.summaries)))
	w.metrics.commitSeconds.Observe(took.Seconds())
	w.created.Add(int64(w.metrics.count(w.outcomes)))
}
