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

// WaitDurable implements store.Durability. It waits until the effects of all steps that the server has answered survive
// a crash of the server and a failover to one of its replicas.
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

// observation is the state of a server at one point in time. It shows whether all effects are in the server's
// append-only file. If the disk is busy, the server writes effects to this file up to two seconds after its reply. If
// the process crashes before that, these effects are lost.
type observation struct {
	// epoch identifies the server process, its role (primary or replica), and its latest promotion to primary. The
	// epoch changes with every restart and failover.
	epoch string
	// The field replicas is the number of replicas that are connected and in sync. The field confirmed is true if they
	// have received all writes of commands to which the server replied before the observation. With
	// plan.DurabilitySynced, the server and the replicas must also have flushed these writes to disk.
	replicas  int
	confirmed bool
	history   history
	// logging is true if the server has an append-only file.
	logging bool
	// The field rewrites identifies the current version of the append-only file. The server creates a version whenever
	// it rewrites the file. Only lengths of the same version are comparable.
	rewrites rewrites
	// The field written is the length of the append-only file in bytes. The field appended is the length of the file
	// and the buffer together.
	written, appended int64
	data              dataState
}

// history describes the replication stream of a server. A primary sends its writes as a stream to its replicas. A
// replica that is promoted continues the stream under a new identifier.
type history struct {
	// id identifies the replication stream. offset is the length of the stream in bytes. The store reads it before it
	// waits for replicas, because replicas may lack bytes that the primary sends during the wait.
	id     string
	offset int64
	// parent is the identifier of the earlier replication stream that this stream continues. The two streams have the
	// same bytes before the offset forkedAt, and different bytes from this offset on.
	parent   string
	forkedAt int64
}

// lacks reports whether this replication stream has forked from the earlier stream at or before the given offset. The
// server has then lost the data at this offset.
func (h history) lacks(earlier history, offset int64) bool {
	return earlier.id != "" && h.id != earlier.id && h.parent == earlier.id && offset >= h.forkedAt
}

// look is a function that reads the state of a server. It waits until the given number of replicas have confirmed all
// earlier writes (see the type barrier). lag is how long some writes have been unconfirmed, or 0 if there are none.
type look func(ctx context.Context, replicas int, lag time.Duration) (observation, error)

// rewrites identifies one version of the append-only file. Redis creates a new version whenever it rewrites the file.
type rewrites struct {
	count, running, base int64
}

// observer polls the state of one server and notifies the waiters whose effects are durable. One poll serves all
// waiters that began to wait before it. The observer polls at most once per observationGap, and only while there is a
// waiter.
type observer struct {
	look    look
	dataset *dataset
	// The function inspect checks the settings of the server. The observer calls inspect at the first observation, and
	// after each restart or failover. It also calls inspect when the first replica connects, because some settings
	// matter only if there is a replica.
	inspect func(context.Context)
	// outages logs when the server fails, and when it works again.
	outages *outage.Log
	// part identifies this observer in the logs outages and lagging.
	part string
	// lagging logs the periods in which servers do not confirm writes.
	lagging *outage.Log
	barrier barrier
	metrics *metrics
	logger  *slog.Logger

	// The field lagged is the time at which the store noticed that servers do not confirm writes. It is zero while all
	// servers confirm writes. Only the goroutine of the method run uses this field.
	lagged time.Time
	// The field promised is an offset in the replication stream of the server, up to which the observer has reported
	// all effects as durable. Only the goroutine of the method run uses this field.
	promised int64

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
	// epoch identifies the server process that the caller expects (see observation.epoch). If another process runs, the
	// caller's effects may be lost. If epoch is empty, the caller waits only for the next observation.
	epoch string
	// The field target is a length of the append-only file in bytes. A file of this length contains the caller's
	// effects. The field observed is true once the target is set. The field rewrites identifies the version of the
	// file. After a rewrite of the file, the observer sets a new target.
	observed bool
	rewrites rewrites
	target   int64
	// The field offset is the replication offset at the first observation for this waiter. A replica that has reached
	// this offset has received the caller's effects.
	offset int64
	// The field confirmed is true once all replicas have confirmed the caller's writes. See observation.confirmed.
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

// shut makes all waiting calls return an error. The method drain waits for the end of the current observation.
func (o *observer) shut() { o.stop() }

func (o *observer) drain() { o.done.Wait() }

// epoch returns the latest observed epoch of the server, which changes with each restart or failover; see
// observation.epoch. If there has been no observation yet, epoch waits for the first one.
func (o *observer) epoch(ctx context.Context) (string, error) {
	if latest := o.latest.Load(); latest != nil {
		return latest.epoch, nil
	}
	if err := o.join(ctx, &waiter{}); err != nil {
		return "", err
	}
	return o.latest.Load().epoch, nil
}

// wait waits until the effects of all steps that the server has answered are durable. It returns store.ErrRolledBack if
// the server has restarted or failed over since the given epoch, or if the epoch is empty.
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

// run is the loop of the observer. It observes the server while callers wait for durability, and otherwise sleeps. It
// returns only after a call of the method shut.
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

// joined appends to the given list the waiters that have begun to wait since its previous call.
func (o *observer) joined(waiters []*waiter) []*waiter {
	o.mu.Lock()
	defer o.mu.Unlock()
	waiters = append(waiters, o.waiting...)
	clear(o.waiting)
	o.waiting = o.waiting[:0]
	return waiters
}

// answer notifies each waiter that needs no further observation. If the observation failed, answer notifies all waiters
// of the error. It returns the waiters that need another observation. All given waiters must have been waiting when the
// observation began.
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

// consider reports whether an observation shows that the waiter's effects are in the append-only file and on all
// replicas. It returns store.ErrRolledBack if the server has restarted or failed over since the steps of the waiter,
// and so may have lost their effects.
func (w *waiter) consider(seen observation) (bool, error) {
	switch {
	case w.epoch == "":
		return true, nil
	case w.epoch != seen.epoch:
		return false, store.ErrRolledBack
	}
	// Set w.offset at the first observation. Afterwards, it can still be 0, because Redis 7.0 reports the offset 0
	// until the first replica connects. But then w.confirmed is true, because the server has no replica.
	if w.offset == 0 && !w.confirmed {
		w.offset = seen.history.offset
	}
	w.confirmed = w.confirmed || seen.confirmed
	switch {
	case !seen.logging:
		return w.confirmed, nil
	case !w.observed || w.rewrites != seen.rewrites || seen.appended < w.target:
		// At the first observation, and after each rewrite of the append-only file, the target becomes the length of
		// the file plus the length of the buffer. Together, they contain the waiter's effects, because the server had
		// executed the waiter's commands before the wait began.
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

// reportReplicas logs a change of the number of replicas. It also logs a warning if servers do not confirm writes for
// longer than lagTolerance. The parameter before is the number of replicas at the previous observation.
func (o *observer) reportReplicas(before int, seen observation) {
	if before != seen.replicas {
		o.logger.Info("The number of the store's connected replicas changed; an event is acknowledged once all connected replicas have its effects",
			"before", before, "now", seen.replicas)
	}
	switch {
	case seen.confirmed:
		o.lagged = time.Time{}
		o.lagging.Fine(o.part)
	case before != seen.replicas:
		// The number of replicas has changed. The observation waited for the previous number, so it cannot show whether
		// a replica lags.
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

// lookAt reads the state of the server and some fields of the ledger in one round trip. It returns an error if the
// server is a cluster node that no longer stores the partition, because the append-only file of that node says nothing
// about the partition.
//
// If b.isNeeded returns true, lookAt also waits with WAIT or WAITAOF (see the type barrier) until the given number of
// replicas have confirmed all earlier writes. These commands cover only the writes of their own connection, so lookAt
// first writes a key. Writes reach replicas and append-only files in order, so a replica that has confirmed the key has
// confirmed all earlier writes.
//
// The replicas may lack what other clients write during the wait. So lookAt reads the ledger and the replication offset
// before it writes the key. All commands use one connection, so they reach the same server process.
func lookAt(ctx context.Context, node *goredis.Client, p *partition, b barrier, replicas int, lag time.Duration) (observation, error) {
	var before, server, persistence, replication *goredis.StringCmd
	var fields *goredis.SliceCmd
	timeout := b.timeout(node.Options().ReadTimeout, lag)
	wait := b.command(ctx, replicas, timeout)
	_, err := b.clientOf(node, timeout).Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		fields = pipe.HMGet(ctx, p.key(keyLedger), fieldDataset, "entries", "matched", "unmatched_expected")
		if b.isNeeded(replicas) {
			before = pipe.Info(ctx, "replication")
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

// parseDataState parses the values of ledger fields. The first value is the mark (see the type dataset). The others are
// counts of effects, which parseDataState adds up.
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
		return observation{}, errors.New("the server's INFO has no run_id, which Redis and Valkey have: check that the server is one of them")
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

// parseReplication parses the section "replication" of the INFO reply. If the server is itself a replica,
// parseReplication does not count its replicas, because no caller waits for the replicas of a replica.
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
	// master_replid is not part of the epoch, because a primary changes it even without a restart or failover: when its
	// first replica connects, and an hour after its last replica has left.
	o.epoch += fmt.Sprintf("/%s:%d", o.history.parent, o.history.forkedAt)
	if role, _ := infoField(info, "role"); role == "master" {
		o.replicas = onlineReplicas(info)
	} else {
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
