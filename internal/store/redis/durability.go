package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/outage"
	"github.com/parking-operator/parking-operator/internal/store"
)

// observationGap is the minimum interval between two observations of a server. It limits the load on the server.
const observationGap = 20 * time.Millisecond

// lagTolerance is how long replicas may leave writes unconfirmed before the observer logs a warning. A busy replica can
// take a second to confirm a write.
const lagTolerance = 5 * time.Second

// Mark implements store.Durability. The mark comes from the latest observation of the partition's server.
func (s *Store) Mark(ctx context.Context, partition int) (store.Mark, error) {
	const doing = "observe the store"
	p, err := s.partition(partition)
	if err != nil {
		return store.Mark{}, fmt.Errorf("%s: %w", doing, err)
	}
	o := s.observer(p)
	epoch, err := o.epoch(ctx)
	if err != nil {
		return store.Mark{}, s.fault(ctx, o.part, doing, err)
	}
	return store.Mark{Epoch: epoch}, nil
}

// WaitDurable implements store.Durability.
func (s *Store) WaitDurable(ctx context.Context, partition int, mark store.Mark) error {
	const doing = "wait until the store has written its append-only file and its replicas have the data"
	p, err := s.partition(partition)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	o := s.observer(p)
	err = o.wait(ctx, mark.Epoch)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrRolledBack):
		return fmt.Errorf("%s: %w", doing, err)
	default:
		return s.fault(ctx, o.part, doing, err)
	}
}

// observation is the state of a server at one point in time. If the disk is busy, the server writes effects to its
// append-only file up to two seconds after the reply to the client.
type observation struct {
	// epoch identifies the server process, its role (primary or replica), and its latest promotion to primary. The
	// epoch changes with every restart and failover.
	epoch    string
	replicas int // connected and in sync
	// confirmed is true if the replicas have received all writes that were answered before the observation. With
	// plan.DurabilitySynced, all servers have also flushed these writes to disk.
	confirmed bool
	history   history
	// logging is true if the server has an append-only file.
	logging bool
	// rewrites identifies the version of the append-only file. Only lengths of the same version are comparable.
	rewrites rewrites
	written  int64 // the length of the append-only file in bytes
	appended int64 // the total length of the append-only file and of its buffer in bytes
	data     dataState
}

// history describes the replication stream of a server. A promoted replica continues the stream under a new
// identifier.
type history struct {
	id string // identifies the replication stream
	// offset is the length of the stream in bytes.
	offset int64
	// parent is the identifier of the stream that this stream continues. The streams differ from the offset forkedAt
	// on.
	parent   string
	forkedAt int64
}

// lacks reports whether this replication stream has forked from the earlier stream at or before the given offset. The
// server has then lost the data at this offset.
func (h history) lacks(earlier history, offset int64) bool {
	return earlier.id != "" && h.id != earlier.id && h.parent == earlier.id && offset >= h.forkedAt
}

// look reads the state of a server, and waits for the given number of replicas to confirm all earlier writes. The
// parameter lag is the time for which writes have been unconfirmed.
type look func(ctx context.Context, replicas int, lag time.Duration) (observation, error)

// rewrites identifies one version of the append-only file. Redis creates a new version whenever it rewrites the file.
type rewrites struct {
	count, running, base int64
}

// observer polls one server while callers wait for durability. A poll serves all callers that began to wait before
// the poll.
type observer struct {
	look    look
	dataset *dataset
	// inspect checks the settings of the server: at the first observation, after each restart or failover, and when the
	// first replica connects, because some settings matter only with replicas.
	inspect func(context.Context)
	// outages logs when the server fails, and when it works again.
	outages *outage.Log
	// part is the name of this observer in outages and lagging.
	part string
	// lagging logs the periods in which servers do not confirm writes.
	lagging *outage.Log
	barrier barrier
	metrics *metrics
	logger  *slog.Logger

	// Only the goroutine that executes run may use lagged and promised.
	lagged   time.Time // when the store noticed that writes are not confirmed; zero while they are
	promised int64     // the replication offset up to which all effects were reported as durable

	latest  atomic.Pointer[observation]
	stopped context.Context
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu      sync.Mutex
	waiting []*waiter
	arrived chan struct{}
}

// waiter is a caller that waits until its effects are durable.
type waiter struct {
	// epoch identifies the server process that the caller expects, or is empty if the caller waits only for the next
	// observation.
	epoch    string
	observed bool     // whether the fields rewrites and target are set
	rewrites rewrites // the version of the append-only file for which target is valid
	target   int64    // an append-only file of at least this length in bytes contains the caller's effects
	offset   int64    // a replica with at least this replication offset has received the caller's effects
	// confirmed is true once all replicas have confirmed the caller's writes.
	confirmed bool
	// left is true once the caller has stopped waiting.
	left   atomic.Bool
	answer chan error
}

// start starts the goroutine of the observer. The goroutine runs until the method shut is called.
func (o *observer) start() *observer {
	o.arrived = make(chan struct{}, 1)
	o.stopped, o.stop = context.WithCancel(context.Background())
	o.done.Go(o.run)
	return o
}

// shut makes all waiting calls return an error. It does not wait for the current observation.
func (o *observer) shut() { o.stop() }

func (o *observer) drain() { o.done.Wait() }

// epoch returns the latest observation.epoch of the server. It waits for the first observation.
func (o *observer) epoch(ctx context.Context) (string, error) {
	if latest := o.latest.Load(); latest != nil {
		return latest.epoch, nil
	}
	if err := o.join(ctx, &waiter{}); err != nil {
		return "", err
	}
	return o.latest.Load().epoch, nil
}

// wait waits until the effects of all answered steps are durable. It returns store.ErrRolledBack if the server has
// restarted or failed over since the given epoch.
func (o *observer) wait(ctx context.Context, epoch string) error {
	if epoch == "" {
		// Without an epoch, the caller does not know which server process received its effects, so they may be lost.
		return store.ErrRolledBack
	}
	return o.join(ctx, &waiter{epoch: epoch})
}

func (o *observer) join(ctx context.Context, w *waiter) error {
	w.answer = make(chan error, 1)
	o.mu.Lock()
	o.waiting = append(o.waiting, w)
	o.mu.Unlock()
	select {
	case o.arrived <- struct{}{}:
	default: // another waiter has already woken the observer
	}
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
		w.left.Store(true)
		return ctx.Err()
	case <-o.stopped.Done():
		return errClosed
	}
}

// run observes the server while callers wait for durability. It returns only after a call of the method shut.
func (o *observer) run() {
	var waiters []*waiter
	for {
		if len(waiters) == 0 && !o.sleep() {
			return
		}
		if waiters = o.joined(waiters); len(waiters) == 0 {
			continue // an earlier observation has already answered the waiter that woke the observer
		}
		began := time.Now()
		seen, err := o.observe(o.stopped)
		waiters = o.answer(waiters, seen, err)
		if !o.pause(observationGap - time.Since(began)) {
			return
		}
	}
}

// sleep blocks until a caller waits for durable effects. It returns false if the observer is closed.
func (o *observer) sleep() bool {
	select {
	case <-o.arrived:
		return true
	case <-o.stopped.Done():
		return false
	}
}

// pause waits for the duration d. It returns false if the observer is closed.
func (o *observer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-o.stopped.Done():
		return false
	}
}

// joined appends the waiters that have begun to wait since the previous call of joined.
func (o *observer) joined(waiters []*waiter) []*waiter {
	o.mu.Lock()
	defer o.mu.Unlock()
	waiters = append(waiters, o.waiting...)
	clear(o.waiting)
	o.waiting = o.waiting[:0]
	return waiters
}

// answer notifies the waiters whose effects are durable or may be lost, and returns the other waiters. If err is not
// nil, answer notifies all waiters of err instead. All waiters must have begun to wait before the observation.
func (o *observer) answer(waiters []*waiter, seen observation, err error) []*waiter {
	return slices.DeleteFunc(waiters, func(w *waiter) bool {
		if w.left.Load() {
			return true
		}
		if err != nil {
			w.answer <- err
			return true
		}
		durable, err := w.consider(seen)
		if durable && err == nil {
			o.promised = max(o.promised, w.offset)
		}
		if durable || err != nil {
			w.answer <- err
			return true
		}
		return false
	})
}

// consider reports whether the waiter's effects are on all replicas and, if the server has an append-only file, in this
// file. It returns store.ErrRolledBack if the effects may be lost.
func (w *waiter) consider(seen observation) (bool, error) {
	switch {
	case w.epoch == "":
		return true, nil
	case w.epoch != seen.epoch:
		return false, store.ErrRolledBack
	}
	// An offset of 0 may not be final: Redis 7.0 reports 0 until its first replica connects. Once w.confirmed is true,
	// the offset is final.
	if w.offset == 0 && !w.confirmed {
		w.offset = seen.history.offset
	}
	w.confirmed = w.confirmed || seen.confirmed
	switch {
	case !seen.logging:
		return w.confirmed, nil
	case !w.observed || w.rewrites != seen.rewrites || seen.appended < w.target:
		// The file and its buffer together contain the waiter's effects, which the server had executed before the
		// wait began.
		w.observed, w.rewrites, w.target = true, seen.rewrites, seen.appended
	}
	return w.confirmed && seen.written >= w.target, nil
}

// observe reads the state of the server and compares it with the previous observation.
func (o *observer) observe(ctx context.Context) (observation, error) {
	before := o.latest.Load()
	replicas := 0
	if before != nil {
		replicas = before.replicas
	}
	var lag time.Duration
	if !o.lagged.IsZero() {
		lag = time.Since(o.lagged)
	}
	seen, err := o.look(ctx, replicas, lag)
	if err != nil {
		return observation{}, err
	}
	if err := o.dataset.compare(ctx, before, o.promised, seen); err != nil {
		return observation{}, err
	}
	o.latest.Store(&seen)
	if before != nil && before.epoch != seen.epoch {
		o.promised = 0
	}
	o.reportReplicas(replicas, seen)
	o.metrics.observations.Inc()
	o.outages.Fine(o.part)
	if before == nil || before.epoch != seen.epoch || before.replicas == 0 && seen.replicas > 0 {
		o.inspect(ctx)
	}
	if before != nil && before.epoch != seen.epoch {
		o.metrics.restarts.Inc()
		o.logger.Warn("The store restarted or failed over; operations whose effects may be lost are repeated",
			"before", before.epoch, "now", seen.epoch)
	}
	return seen, nil
}

// reportReplicas logs a change of the number of replicas since the previous observation. It also logs a warning if
// servers do not confirm writes for longer than lagTolerance.
func (o *observer) reportReplicas(before int, seen observation) {
	if before != seen.replicas {
		o.logger.Info("The number of connected replicas of the store changed",
			"before", before, "now", seen.replicas)
	}
	switch {
	case seen.confirmed:
		o.lagged = time.Time{}
		o.lagging.Fine(o.part)
	case before != seen.replicas:
		// The observation waited for as many confirmations as there were replicas before. So a missing confirmation
		// does not show that a replica lags.
	case o.lagged.IsZero():
		o.lagged = time.Now()
	case time.Since(o.lagged) > lagTolerance:
		o.lagging.Fault(o.part, o.barrier.lagError(seen.replicas))
	}
}

// newLook returns the function that reads the state of the server of a partition.
func (s *Store) newLook(p *partition) look {
	key := p.key(keyLedger)
	return func(ctx context.Context, replicas int, lag time.Duration) (observation, error) {
		node, err := s.nodeOf(ctx, key)
		if err != nil {
			return observation{}, err
		}
		if s.ignoreReplicas {
			replicas = 0
		}
		seen, err := lookAt(ctx, node, p, s.barrier, replicas, lag)
		seen.confirmed = seen.confirmed || s.ignoreReplicas
		if cluster, ok := s.client.(*goredis.ClusterClient); ok && goredis.HasErrorPrefix(err, "MOVED") {
			cluster.ReloadState(ctx)
		}
		return seen, err
	}
}

// nodeOf returns a client of the server that stores the key.
func (s *Store) nodeOf(ctx context.Context, key string) (*goredis.Client, error) {
	switch client := s.client.(type) {
	case *goredis.ClusterClient:
		return client.MasterForKey(ctx, key)
	case *goredis.Client:
		return client, nil
	}
	return nil, fmt.Errorf("the client of the store has the unexpected type %T", s.client)
}

// lookAt reads the state of the server on one connection, so that all values are from the same server process. It fails
// on a cluster node that no longer serves the partition.
func lookAt(ctx context.Context, node *goredis.Client, p *partition, b barrier, replicas int, lag time.Duration) (observation, error) {
	var before, server, persistence, replication *goredis.StringCmd
	var fields *goredis.SliceCmd
	timeout := b.timeout(node.Options().ReadTimeout, lag)
	wait := b.command(ctx, replicas, timeout)
	_, err := b.clientOf(node, timeout).Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		// Replicas may lack later writes, so read the ledger and the offset before the wait.
		fields = pipe.HMGet(ctx, p.key(keyLedger), fieldDataset, "entries", "matched", "unmatched_expected")
		if b.isNeeded(replicas) {
			before = pipe.Info(ctx, "replication")
			// WAIT and WAITAOF wait only for the writes of their own connection, so write a key on this connection. The
			// confirmation of this write also covers earlier writes of all connections.
			pipe.Set(ctx, p.key(keyWritable), "", writableTTL)
			_ = pipe.Process(ctx, wait) // no error is possible, because a pipeline only queues the command
		}
		server = pipe.Info(ctx, "server")
		persistence = pipe.Info(ctx, "persistence")
		replication = pipe.Info(ctx, "replication")
		return nil
	})
	if err != nil {
		return observation{}, err
	}
	seen, err := parseObservation(server.Val(), persistence.Val(), replication.Val())
	if err != nil {
		return observation{}, err
	}
	if before != nil {
		if seen.history.offset, err = infoNumber(before.Val(), "master_repl_offset"); err != nil {
			return observation{}, err
		}
	}
	seen.confirmed = b.isPassed(wait.Val(), seen.replicas)
	seen.data, err = parseDataState(fields.Val())
	return seen, err
}

// parseDataState parses the values of ledger fields: first the mark of the dataset, then counts of effects, which are
// added up.
func parseDataState(fields []any) (dataState, error) {
	g := dataState{mark: text(fields[0])}
	for _, field := range fields[1:] {
		n, err := wholeNumber(field)
		if err != nil {
			return dataState{}, fmt.Errorf("read a count of the ledger: %w", err)
		}
		g.effects += n
	}
	return g, nil
}

// parseObservation parses the sections "server", "persistence" and "replication" of the INFO reply.
func parseObservation(server, persistence, replication string) (observation, error) {
	epoch, found := infoField(server, "run_id")
	if !found || epoch == "" {
		return observation{}, errors.New("the INFO reply of the server has no run_id: check that the server is Redis or Valkey")
	}
	seen := observation{epoch: epoch}
	if err := seen.parseReplication(replication); err != nil {
		return observation{}, err
	}
	logging, err := infoNumber(persistence, "aof_enabled")
	if err != nil || logging == 0 {
		return seen, err
	}
	seen.logging = true
	var buffered int64
	for field, into := range map[string]*int64{
		"aof_current_size":        &seen.written,
		"aof_buffer_length":       &buffered,
		"aof_rewrites":            &seen.rewrites.count,
		"aof_rewrite_in_progress": &seen.rewrites.running,
		"aof_base_size":           &seen.rewrites.base,
	} {
		if *into, err = infoNumber(persistence, field); err != nil {
			return observation{}, err
		}
	}
	seen.appended = seen.written + buffered
	return seen, nil
}

// parseReplication parses the section "replication" of the INFO reply.
func (o *observation) parseReplication(info string) error {
	id, found := infoField(info, "master_replid")
	if !found {
		return nil // some hosted services hide the replication ID
	}
	o.history.id = id
	o.history.parent, _ = infoField(info, "master_replid2")
	for field, into := range map[string]*int64{
		"master_repl_offset": &o.history.offset,
		"second_repl_offset": &o.history.forkedAt,
	} {
		var err error
		if *into, err = infoNumber(info, field); err != nil {
			return err
		}
	}
	// The epoch excludes master_replid, which a primary also changes without a restart: when its first replica
	// connects, and an hour after its last has left.
	o.epoch += fmt.Sprintf("/%s:%d", o.history.parent, o.history.forkedAt)
	if role, _ := infoField(info, "role"); role == "master" {
		o.replicas = onlineReplicas(info)
	} else {
		// o.replicas stays 0, because no caller waits until the replicas of a replica confirm writes.
		o.epoch += "/replica"
	}
	return nil
}

// onlineReplicas counts the replicas that are connected and in sync. The INFO reply has one line per replica, of the
// form slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0.
func onlineReplicas(info string) (online int) {
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		number, isReplica := strings.CutPrefix(name, "slave")
		if _, err := strconv.Atoi(number); isReplica && err == nil && slices.Contains(strings.Split(value, ","), "state=online") {
			online++
		}
	}
	return online
}

func infoNumber(info, field string) (int64, error) {
	text, found := infoField(info, field)
	if !found {
		return 0, fmt.Errorf("the server's INFO has no %s: check that the server is Redis or Valkey 7.0 or later", field)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s of the server's INFO: %w", field, err)
	}
	return n, nil
}

// infoField returns the value of a field in an INFO reply, which has lines of the form field:value.
func infoField(info, field string) (string, bool) {
	for line := range strings.Lines(info) {
		if name, value, found := strings.Cut(line, ":"); found && name == field {
			return strings.TrimRight(value, "\r\n"), true
		}
	}
	return "", false
}
