package controllers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/ledger"
)

const (
	// lookInterval is how often a ledger is read, and so how soon it shows that a server is gone or back.
	lookInterval = 5 * time.Second
	// tellInterval is how often moving counters are news, and so how often a status changes for them.
	tellInterval = 15 * time.Second
	// drainInterval is how often it is read while the simulation comes to rest.
	drainInterval = 2 * time.Second
	// readTimeout bounds what one reading asks of a server.
	readTimeout = 8 * time.Second
	// failurePause is how much longer it takes to the next reading after each that failed, so that a server
	// that does not answer leaves time for others; at most maxPause.
	failurePause = 5 * time.Second
	maxPause     = 30 * time.Second
	// readers is how many ledgers are read at a time.
	readers = 16
	// measureAttempts is how often pods are asked for their measurements before the verdict does without.
	measureAttempts = 5
	// stillReadings is how many equal readings make a rest; lostReadings is how many it takes when events
	// are missing, which a processor may hold that waits for something.
	stillReadings = 2
	lostReadings  = 5
)

// LedgerReader reads the ledgers and queues of simulations, beside all reconciling, and calls for a
// reconcile when it has news. It is a manager.Runnable, and safe for concurrent use.
type LedgerReader struct {
	backends Backends
	queue    workqueue.TypedDelayingInterface[client.ObjectKey]
	news     chan event.GenericEvent

	mu      sync.Mutex
	tracked map[client.ObjectKey]*tracked
}

// NewLedgerReader returns a reader that reads nothing until it is started and told to track something.
func NewLedgerReader(b Backends) *LedgerReader {
	return &LedgerReader{
		backends: b,
		queue:    workqueue.NewTypedDelayingQueue[client.ObjectKey](),
		news:     make(chan event.GenericEvent),
		tracked:  map[client.ObjectKey]*tracked{},
	}
}

// tracked is a simulation whose ledger is read.
type tracked struct {
	target Target
	// draining are the pods to ask for their measurements when the simulation has come to rest; nil as long
	// as it is not to.
	draining *Endpoints

	// The fields below belong to the goroutine that reads, of which there is one at a time.
	conn     *connection
	auditor  *ledger.Auditor
	still    int
	failures int
	measured int
	last     ledger.Report
	letters  deadLetters

	// published is the latest reading that was news.
	published *reading
}

// reading is what a look at the servers showed.
type reading struct {
	at     time.Time
	report ledger.Report
	depths broker.Depths
	// deadReasons are why messages were dead-lettered.
	deadReasons []broker.ReasonCount
	// brokerErr and storeErr say why something could not be read, brokerTried whether the broker was asked.
	brokerErr, storeErr error
	brokerTried         bool
	// rest is the final audit; nil as long as the simulation is not at rest.
	rest *settled
}

// deadLetters are what a look into the dead-letter queue showed.
type deadLetters struct {
	at      time.Time
	count   int64
	reasons []broker.ReasonCount
}

// settled is what is known of a simulation that has come to rest.
type settled struct {
	report      ledger.Report
	measurement Measurement
	// unmeasured says why the measurement is not whole; nil when it is.
	unmeasured error
}

// track has the ledger of a simulation read from now on. Draining asks whether the simulation has come to
// rest, and if so, these pods for what they measured. A changed target makes a new connection.
func (l *LedgerReader) track(key client.ObjectKey, target Target, draining *Endpoints) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.tracked[key]
	switch {
	case !ok || !reflect.DeepEqual(t.target, target):
		next := &tracked{target: target, draining: draining}
		if ok {
			next.published = t.published
		}
		l.tracked[key] = next
	case !reflect.DeepEqual(t.draining, draining):
		t.draining = draining
	default:
		return
	}
	l.queue.Add(key)
}

// forget ends the reading of a simulation's ledger.
func (l *LedgerReader) forget(key client.ObjectKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.tracked[key]; ok {
		delete(l.tracked, key)
		l.queue.Add(key) // whoever holds the connection is to close it
	}
}

// latest returns the latest news of a simulation and what was tracked; nil when there is none.
func (l *LedgerReader) latest(key client.ObjectKey) (*reading, *Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, ok := l.tracked[key]
	if !ok {
		return nil, nil
	}
	target := t.target
	return t.published, &target
}

// Start reads until ctx ends.
func (l *LedgerReader) Start(ctx context.Context) error {
	defer context.AfterFunc(ctx, l.queue.ShutDown)()
	connections := &connections{open: map[client.ObjectKey]*tracked{}}
	var work sync.WaitGroup
	for range readers {
		work.Go(func() {
			for l.next(ctx, connections) {
			}
		})
	}
	work.Wait()
	return connections.closeAll()
}

// NeedLeaderElection is true: a ledger is read for the sake of the status, which only the leader writes.
func (l *LedgerReader) NeedLeaderElection() bool { return true }

// connections are those that are open, by simulation, so that the one of a simulation that is no longer
// tracked can be closed by whoever reads next.
type connections struct {
	mu   sync.Mutex
	open map[client.ObjectKey]*tracked
}

// swap notes that t is read now, and returns what was before if that is another.
func (c *connections) swap(key client.ObjectKey, t *tracked) *tracked {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.open[key]
	if t == nil {
		delete(c.open, key)
	} else {
		c.open[key] = t
	}
	if before == t {
		return nil
	}
	return before
}

func (c *connections) closeAll() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, t := range c.open {
		if t.conn != nil {
			errs = append(errs, t.conn.Close())
		}
	}
	return errors.Join(errs...)
}

// next reads one ledger. It returns false when there is nothing more to do.
func (l *LedgerReader) next(ctx context.Context, open *connections) bool {
	key, shutdown := l.queue.Get()
	if shutdown {
		return false
	}
	defer l.queue.Done(key)
	l.mu.Lock()
	t := l.tracked[key]
	var draining *Endpoints
	if t != nil {
		draining = t.draining
	}
	l.mu.Unlock()
	if before := open.swap(key, t); before != nil && before.conn != nil {
		_ = before.conn.Close() // it may well be that its server is gone
	}
	if t == nil {
		return true
	}
	r := l.read(ctx, t, draining)
	if l.isNews(t, r) {
		l.tell(ctx, key)
	}
	l.queue.AddAfter(key, pauseUntilNext(draining != nil && r.rest == nil, t.failures))
	return true
}

// pauseUntilNext is how long until the next reading, jittered so that simulations are not read all at once.
func pauseUntilNext(draining bool, failures int) time.Duration {
	pause := lookInterval
	if draining {
		pause = drainInterval
	}
	if failures > 1 { // the first may be a matter of moments
		pause = min(pause+time.Duration(failures-1)*failurePause, maxPause)
	}
	return pause + rand.N(pause/10)
}

// isNews publishes a reading that tells something new.
func (l *LedgerReader) isNews(t *tracked, r *reading) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := t.published; p != nil {
		// What comes more often than counters are to move waits for its turn, unless it says something else.
		early := r.at.Sub(p.at) < tellInterval && r.rest == nil && sameErrors(p, r)
		same := reflect.DeepEqual(p.report, r.report) && p.depths == r.depths && reflect.DeepEqual(p.deadReasons, r.deadReasons) &&
			sameErrors(p, r) && (p.rest == nil) == (r.rest == nil)
		if early || same {
			return false
		}
	}
	t.published = r
	return true
}

func sameErrors(a, b *reading) bool {
	return text(a.brokerErr) == text(b.brokerErr) && text(a.storeErr) == text(b.storeErr)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (l *LedgerReader) tell(ctx context.Context, key client.ObjectKey) {
	object := &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	select {
	case l.news <- event.GenericEvent{Object: object}:
	case <-ctx.Done():
	}
}

// read looks at the queues and at the ledger.
func (l *LedgerReader) read(ctx context.Context, t *tracked, draining *Endpoints) *reading {
	r := &reading{at: time.Now()}
	defer func() { t.countFailure(r) }()
	if t.conn == nil {
		conn, err := open(l.backends, t.target)
		if err != nil {
			r.storeErr = err
			return r
		}
		t.conn, t.auditor = conn, ledger.NewAuditor(conn.keys)
	}
	before := t.still
	t.still = 0
	// Each server is looked at, lest the fault of one hide that of the other.
	r.report, r.storeErr = within(ctx, func(ctx context.Context) (ledger.Report, error) {
		return t.auditor.Audit(ctx, ledger.Options{})
	})
	r.depths, r.brokerErr = within(ctx, t.conn.queues.Depths)
	r.brokerTried = true
	if r.storeErr != nil || r.brokerErr != nil {
		return r
	}
	if draining != nil && reflect.DeepEqual(t.last, r.report) && isEmpty(r) {
		t.still = before + 1
	}
	t.last = r.report
	if t.still >= needed(r.report) {
		l.conclude(ctx, t, r, *draining)
	}
	r.deadReasons = t.lookIntoDeadLetters(ctx, r)
	return r
}

// within reads something in readTimeout.
func within[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return read(ctx)
}

// lookIntoDeadLetters returns why messages were dead-lettered. It looks when their number has changed, and no more
// often than counters are told. When it cannot, those that it found before have to do.
func (t *tracked) lookIntoDeadLetters(ctx context.Context, r *reading) []broker.ReasonCount {
	if dead := r.depths.Dead; dead != t.letters.count && (r.rest != nil || r.at.Sub(t.letters.at) >= tellInterval) {
		reasons, err := t.conn.queues.DeadLetterReasons(ctx, ledger.NamedReasons)
		if err == nil {
			t.letters = deadLetters{at: r.at, count: dead, reasons: reasons}
		}
	}
	return t.letters.reasons
}

// countFailure counts the readings that failed one after the other.
func (t *tracked) countFailure(r *reading) {
	t.failures++
	if r.storeErr == nil && r.brokerErr == nil {
		t.failures = 0
	}
}

// isEmpty reports whether nothing is known to be under way. While summaries wait for their API,
// processors hold something.
func isEmpty(r *reading) bool {
	held := r.report.Outbox > 0 && r.report.Outstanding > 0
	return r.depths.Ready+r.depths.Retry == 0 && !held
}

func needed(r ledger.Report) int {
	if r.Outstanding > 0 {
		return lostReadings
	}
	return stillReadings
}

// conclude asks the pods what they measured, and then reads the whole ledger anew: at rest, an event without
// effect is lost. When a pod does not answer there is no rest yet, unless that has been so for some time.
func (l *LedgerReader) conclude(ctx context.Context, t *tracked, r *reading, pods Endpoints) {
	t.measured++
	measurement, unmeasured := l.backends.Measure(ctx, pods)
	if unmeasured != nil && t.measured < measureAttempts {
		return
	}
	report, err := ledger.Audit(ctx, t.conn.keys, ledger.Options{AtRest: true})
	if err != nil {
		r.storeErr = fmt.Errorf("read the ledger for the verdict: %w", err)
		return
	}
	r.rest, r.report = &settled{report: report, measurement: measurement, unmeasured: unmeasured}, report
}
