package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/logtest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// TestBroker_ServerFails_LosesNoMessage publishes and consumes messages on a private server while that server
// fails in different ways.
func TestBroker_ServerFails_LosesNoMessage(t *testing.T) {
	t.Parallel()
	server := &ownServer{RabbitMQ: servers.NewRabbitMQ(t, servers.RabbitMQOptions{})}
	t.Run("faults of the server lose no message", func(t *testing.T) { losesNothing(t, server) })
	t.Run("a message that a full queue rejects is published again until the queue accepts it", func(t *testing.T) {
		publishesWhatIsRefused(t, server)
	})
	t.Run("a resource alarm blocks publishers whose window is full, but no consumers", func(t *testing.T) {
		blocksPublishers(t, server)
	})
	t.Run("a changed password is used by the next attempt to connect", func(t *testing.T) {
		usesNewPassword(t, server)
	})
	t.Run("a message with the user ID of another user is moved without this user ID", func(t *testing.T) {
		movesMessageOfAnotherUser(t, server)
	})
}

type ownServer struct{ *servers.RabbitMQ }

func (s *ownServer) ctl(t *testing.T, args ...string) {
	t.Helper()
	if output, err := s.Ctl(args...); err != nil {
		t.Fatalf("%v: %v: %s", args, err, output)
	}
}

func (s *ownServer) setAlarm(t *testing.T, on bool) {
	t.Helper()
	watermark := "0.6"
	if on {
		watermark = "0.000001"
	}
	s.ctl(t, "set_vm_memory_high_watermark", watermark)
}

// losesNothing makes the server fail in several ways while two streams publish and consume. Every message must be
// confirmed once, and none may be lost.
func losesNothing(t *testing.T, server *ownServer) {
	faults := []struct {
		name   string
		happen func()
	}{
		{"the connections are closed", func() { server.ctl(t, "close_all_connections", "on purpose") }},
		{"the connections are closed again", func() { server.ctl(t, "close_all_connections", "on purpose") }},
		{"the RabbitMQ application stops and starts", func() {
			server.ctl(t, "stop_app")
			server.ctl(t, "start_app")
		}},
		{"the server is killed and starts", func() {
			if err := errors.Join(server.SyncQueues(), server.Kill(), server.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
		}},
		{"the server restarts", func() {
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{"the server accepts no messages and closes connections", func() {
			server.setAlarm(t, true)
			server.ctl(t, "close_all_connections", "on purpose")
			server.setAlarm(t, false)
		}},
	}
	log := &logtest.Buffer{}
	defer func() {
		if t.Failed() {
			t.Log(log)
		}
	}()
	streams := []*stream{
		startStream(t, source(t, server.URI()), plan.QueueTypeQuorum, log), startStream(t, source(t, server.URI()), plan.QueueTypeClassic, log),
	}
	for _, fault := range faults {
		for _, s := range streams {
			s.awaitProgress(t, "before "+fault.name)
		}
		fault.happen()
		for _, s := range streams {
			s.awaitProgress(t, "after "+fault.name)
		}
	}
	for _, s := range streams {
		s.finish(t)
	}
	uri, _ := url.Parse(server.URI())
	assertNoPassword(t, log, uri)
}

func publishesWhatIsRefused(t *testing.T, server *ownServer) {
	options := optionsFor(t, server.URI())
	registry := prometheus.NewRegistry()
	options.Registerer = registry
	b := newBroker(t, options)
	if err := b.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.ctl(t, "set_policy", "--apply-to", "queues", "short", "^"+options.Exchange+".entry", `{"max-length": 3}`)
	defer server.ctl(t, "clear_policy", "short")
	var mu sync.Mutex
	confirmed := map[string]int{}
	count := 0
	isRejected := func() bool { return gathered(t, registry, "parking_broker_rejected_messages_total") > 0 }
	// A quorum queue accepts a few messages more than its maximum length before it rejects messages.
	for !isRejected() {
		id := strconv.Itoa(count)
		err := b.Publish(t.Context(), entries(), broker.Message{ID: id}, func() {
			mu.Lock()
			defer mu.Unlock()
			confirmed[id]++
		})
		if err != nil {
			t.Fatal(err)
		}
		if count++; count == 10_000 {
			t.Fatal("the queue is never full")
		}
		polltest.Until(t, "the message is confirmed or rejected", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(confirmed) == count || isRejected()
		})
	}
	delivered := map[string]bool{}
	deliveries := consume(t, b, entries(), 1)
	for len(delivered) < count {
		d := receive(t, deliveries)
		delivered[d.Message.ID] = true
		if err := d.Settler.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	if !flushWithin(t, b, patience) {
		t.Fatal("not all messages are confirmed")
	}
	for n := range count {
		if id := strconv.Itoa(n); confirmed[id] != 1 {
			t.Errorf("message %s was confirmed %d times", id, confirmed[id])
		}
	}
}

// flushWithin reports whether all messages were confirmed before the timeout.
func flushWithin(t *testing.T, b *rabbitmq.Broker, timeout time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := b.Flush(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("flush: %v", err)
	}
	return err == nil
}

func blocksPublishers(t *testing.T, server *ownServer) {
	options := optionsFor(t, server.URI())
	options.Window = 10
	log := &logtest.Buffer{}
	options.Logger = log.Logger()
	b := newBroker(t, options)
	publish(t, b, entries(), broker.Message{ID: "before"})
	server.setAlarm(t, true)
	defer server.setAlarm(t, false)

	var confirmed atomic.Int64
	put := func(b *rabbitmq.Broker) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return b.Publish(ctx, entries(), broker.Message{ID: "during"}, func() { confirmed.Add(1) })
	}
	var published int64
	// The server accepts some messages before it announces the alarm.
	polltest.Until(t, "publishers are blocked by the alarm, and the window is full of unconfirmed messages", func() bool {
		err := put(b)
		if err == nil {
			published++
			return false
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Publish returned %v during the alarm", err)
		}
		return published-confirmed.Load() == int64(options.Window) && strings.Contains(log.String(), "blocks publishers")
	})
	if d := receive(t, consume(t, b, entries(), 1)); d.Message.ID != "before" {
		t.Errorf("received %q", d.Message.ID)
	} else if err := d.Settler.Ack(); err != nil {
		t.Error(err)
	}

	// Close must not wait until the alarm ends. Close a separate broker, because the rest of the test uses b.
	other := open(t, options)
	polltest.Until(t, "the publishers of the other broker are blocked", func() bool { return put(other) != nil })
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	server.setAlarm(t, false)
	if !flushWithin(t, b, patience) {
		t.Fatal("not all messages are confirmed after the alarm")
	}
	if got := confirmed.Load(); got < published {
		t.Errorf("%d messages of %d are confirmed after the alarm", got, published)
	}
}

func usesNewPassword(t *testing.T, server *ownServer) {
	server.ctl(t, "add_user", "rotated", "the first password")
	t.Cleanup(func() { server.ctl(t, "delete_user", "rotated") }) // runs after the broker is closed
	server.ctl(t, "set_permissions", "rotated", ".*", ".*", ".*")
	uri, _ := url.Parse(server.URI())
	var mu sync.Mutex
	password := "the first password"
	log := &logtest.Buffer{}
	options := optionsFor(t, server.URI())
	options.Logger = log.Logger()
	options.Binding = func() (binding.Binding, error) {
		mu.Lock()
		defer mu.Unlock()
		rotated := *uri
		rotated.User = url.UserPassword("rotated", password)
		return binding.Binding{URI: &rotated}, nil
	}
	b := newBroker(t, options)
	deliveries := consume(t, b, entries(), 1)
	publish(t, b, entries(), broker.Message{ID: "1"})
	if err := receive(t, deliveries).Settler.Ack(); err != nil {
		t.Fatal(err)
	}
	server.ctl(t, "change_password", "rotated", "the second password")
	server.ctl(t, "close_all_connections", "rotation")
	if err := b.Publish(t.Context(), entries(), broker.Message{ID: "2"}, func() {}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the refused login is logged", func() bool {
		return strings.Contains(log.String(), "correct the user name or password")
	})
	mu.Lock()
	password = "the second password"
	mu.Unlock()
	if err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for receive(t, deliveries).Message.ID != "2" { // skip message 1, which may be redelivered
	}
	if strings.Contains(log.String(), "first password") || strings.Contains(log.String(), "second password") {
		t.Error("a password is in the log")
	}
}

// The server rejects a message whose user ID is not that of the publisher. So a copy must drop the user ID of the
// original.
func movesMessageOfAnotherUser(t *testing.T, server *ownServer) {
	server.ctl(t, "add_user", "another", "password")
	defer server.ctl(t, "delete_user", "another")
	server.ctl(t, "set_permissions", "another", ".*", ".*", ".*")
	options := optionsFor(t, server.URI())
	b := newBroker(t, options)
	if err := b.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	uri, _ := url.Parse(server.URI())
	uri.User = url.UserPassword("another", "password")
	signed := amqp.Publishing{UserId: "another", Body: []byte("{}")}
	if err := dialServer(t, uri.String()).PublishWithContext(t.Context(), options.Exchange, "entry.0", true, false, signed); err != nil {
		t.Fatal(err)
	}
	deliveries := consume(t, b, entries(), 1)
	if err := receive(t, deliveries).Settler.Retry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, deliveries).Settler.DeadLetter(t.Context(), broker.Reason{}); err != nil {
		t.Fatal(err)
	}
	awaitDepths(t, b, broker.Depths{Dead: 1})
}

// stream is a test client that publishes and consumes messages continuously. It does not use RabbitMQ's streams.
type stream struct {
	broker    *rabbitmq.Broker
	dials     func() int64 // returns the number of attempts to connect
	retries   bool         // whether some messages are retried
	stop      context.CancelFunc
	publisher sync.WaitGroup
	consumers sync.WaitGroup

	mu           sync.Mutex
	moved        sync.Cond // wakes the publisher when a message is acknowledged or the stream stops
	published    int
	confirmed    map[string]int
	acknowledged map[string]int
	latest       int // the number of confirms and acknowledgements so far, which grows while messages flow
}

// backlog is the maximum number of unacknowledged messages of a stream.
const backlog = 1000

func startStream(t *testing.T, at binding.Source, queueType plan.QueueType, log *logtest.Buffer) *stream {
	t.Helper()
	options := optionsFor(t, "")
	options.Binding = at
	options.QueueType, options.Logger, options.RetryDelay = queueType, log.Logger(), 50*time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	s := &stream{
		broker: newBroker(t, options), stop: stop,
		retries:   queueType == plan.QueueTypeQuorum, // a classic queue may lose a retried message if its node crashes
		confirmed: map[string]int{}, acknowledged: map[string]int{},
	}
	s.dials = s.broker.CountDials()
	s.moved.L = &s.mu
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.moved.Broadcast()
	})
	for n := range 2 {
		deliveries, err := s.broker.Consume(t.Context(), entries(), 50*(n+1))
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			s.consumers.Go(func() { s.settle(t, deliveries) })
		}
	}
	s.publisher.Go(func() { s.publish(ctx, t) })
	return s
}

func (s *stream) publish(ctx context.Context, t *testing.T) {
	for s.mayPublish(ctx) {
		id := fmt.Sprintf("message-%d", s.published)
		err := s.broker.Publish(ctx, entries(), broker.Message{ID: id}, func() { s.count(s.confirmed, id) })
		if errors.Is(err, context.Canceled) {
			return
		}
		if err != nil {
			t.Errorf("publish: %v", err)
			return
		}
		s.mu.Lock()
		s.published++
		s.mu.Unlock()
	}
}

// mayPublish blocks while too many messages are unacknowledged. It returns false if ctx ends first.
func (s *stream) mayPublish(ctx context.Context) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.published-len(s.acknowledged) >= backlog && ctx.Err() == nil {
		s.moved.Wait()
	}
	return ctx.Err() == nil
}

func (s *stream) settle(t *testing.T, deliveries <-chan broker.Delivery) {
	for d := range deliveries {
		var err error
		if s.retries && d.Message.Attempt == 0 && strings.HasSuffix(d.Message.ID, "7") {
			err = d.Settler.Retry(t.Context())
		} else if err = d.Settler.Ack(); err == nil {
			s.count(s.acknowledged, d.Message.ID)
		}
		if err != nil && !errors.Is(err, broker.ErrSessionLost) {
			t.Errorf("settle %s: %v", d.Message.ID, err)
		}
	}
}

func (s *stream) count(what map[string]int, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	what[id]++
	s.latest++
	s.moved.Broadcast()
}

// awaitProgress waits until the total number of confirms and acknowledgements has grown by 500.
func (s *stream) awaitProgress(t *testing.T, when string) {
	t.Helper()
	s.mu.Lock()
	before := s.latest
	s.mu.Unlock()
	polltest.Until(t, "messages flow, "+when, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.latest >= before+500
	})
}

// finish stops publishing and waits until all remaining messages are acknowledged.
func (s *stream) finish(t *testing.T) {
	t.Helper()
	s.stop()
	s.publisher.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.broker.Flush(ctx); err != nil {
		t.Errorf("wait for the confirms: %v", err)
	}
	polltest.Until(t, "every message is acknowledged", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.acknowledged) == s.published
	})
	awaitDepths(t, s.broker, broker.Depths{})
	if err := s.broker.Close(); err != nil {
		t.Error(err)
	}
	s.consumers.Wait()
	for n := range s.published {
		id := fmt.Sprintf("message-%d", n)
		if s.confirmed[id] != 1 || s.acknowledged[id] == 0 {
			t.Errorf("%s was confirmed %d times, want 1, and acknowledged %d times, want at least 1", id, s.confirmed[id], s.acknowledged[id])
		}
	}
	t.Logf("published messages: %d; acknowledgements: %d", s.published, s.latest-s.published)
}
