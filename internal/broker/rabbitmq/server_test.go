package rabbitmq_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/logtest"
	"github.com/parking-operator/parking-operator/internal/plan"
	"github.com/parking-operator/parking-operator/internal/polltest"
	"github.com/parking-operator/parking-operator/internal/tlstest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// patience is the timeout for every condition that a test waits for. It is long enough for a busy machine.
const patience = 3 * time.Minute

func entries() broker.Queue { return broker.Queue{Type: event.TypeEntry} }

func TestBrokerCheck_ServerIsUnusable_ErrorIsOneLineWithTheRemedy(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	if err := open(t, optionsFor(t, uri)).Check(t.Context()); err != nil {
		t.Fatalf("check of a server that runs: %v", err)
	}
	good, _ := url.Parse(uri)
	with := func(change func(*url.URL)) *url.URL {
		u := *good
		change(&u)
		return &u
	}
	tests := []struct {
		name string
		uri  *url.URL
		want string
	}{
		{"no process listens", with(func(u *url.URL) { u.Host = servers.FreeAddress(t) }), "start RabbitMQ there"},
		{"the password is wrong", with(func(u *url.URL) {
			u.User = url.UserPassword(good.User.Username(), "a-wrong-password")
		}), "correct the user name or password"},
		{"the user does not exist", with(func(u *url.URL) { u.User = url.UserPassword("nobody", "a-wrong-password") }),
			"correct the user name or password"},
		{"the virtual host does not exist", with(func(u *url.URL) { u.Path = "/nowhere" }), "add_vhost"},
		{"the port does not speak TLS", with(func(u *url.URL) { u.Scheme = "amqps" }), "does not speak TLS"},
		{"the port requires TLS", with(func(u *url.URL) { u.Host, _ = proxyTLS(t, good.Host) }), "amqps"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			options := optionsFor(t, uri)
			options.Binding = func() (binding.Binding, error) { return binding.Binding{URI: tt.uri}, nil }
			err := open(t, options).Check(t.Context())
			if err == nil {
				t.Fatal("the check succeeded")
			}
			text := err.Error()
			if !strings.Contains(text, tt.want) || !strings.Contains(text, tt.uri.Host) || strings.ContainsRune(text, '\n') {
				t.Errorf("the check returned %q", text)
			}
			if password, _ := tt.uri.User.Password(); strings.Contains(text, password) {
				t.Errorf("the check returned the password: %q", text)
			}
		})
	}
}

func TestBrokerCheck_ContextEnds_Returns(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	options := optionsFor(t, "amqp://"+silent.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := open(t, options).Check(ctx); err == nil || !strings.Contains(err.Error(), "firewall") {
		t.Errorf("the check returned %v", err)
	}
}

func TestBroker_OverTLS_TrustsOnlyTheGivenCA(t *testing.T) {
	t.Parallel()
	uri, _ := url.Parse(servers.AMQPURI(t))
	host, ca := proxyTLS(t, uri.Host)
	_, otherCA := proxyTLS(t, uri.Host)
	secured := *uri
	secured.Scheme, secured.Host = "amqps", host

	options := optionsFor(t, uri.String())
	options.Binding = func() (binding.Binding, error) { return binding.Binding{URI: &secured, CA: ca}, nil }
	b := newBroker(t, options)
	publish(t, b, entries(), broker.Message{ID: "over TLS"})
	if d := receive(t, consume(t, b, entries(), 1)); d.Message.ID != "over TLS" {
		t.Errorf("received %q", d.Message.ID)
	}
	for name, ca := range map[string][]byte{"the system's": nil, "another": otherCA} {
		options.Binding = func() (binding.Binding, error) { return binding.Binding{URI: &secured, CA: ca}, nil }
		if err := open(t, options).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "ca.crt") {
			t.Errorf("with %s CA the check returned %v", name, err)
		}
	}
}

func TestDelivery_FromExternalPublisher_KeepsBodyAndProperties(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	options.RetryDelay = 50 * time.Millisecond
	b := newBroker(t, options)
	if err := b.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	channel := dialServer(t, uri)
	deliveries := consume(t, b, entries(), 1)
	external := map[string]amqp.Publishing{
		"nothing but a body": {Body: []byte("not JSON")},
		"no body":            {MessageId: "empty"},
		"headers of the wrong types": {Body: []byte("{}"), Headers: amqp.Table{
			event.HeaderIntent: int32(4), event.HeaderScheduled: "now", event.HeaderAttempt: int8(-5),
			event.HeaderStage: nil, event.HeaderReason: amqp.Table{},
		}},
		"headers of every type": {Body: []byte("{}"), Headers: amqp.Table{
			"theirs": "a value", "b": true, "y": byte(1), "i8": int8(1), "i16": int16(1), "u16": uint16(1),
			"i32": int32(1), "u32": uint32(1), "i64": int64(1), "f32": float32(1), "f64": 1.5, "n": nil,
			"x": []byte{0, 255}, "d": amqp.Decimal{Scale: 2, Value: 5}, "t": time.Unix(1_900_000_000, 0),
			"l": []any{int32(1), "x", amqp.Table{"y": nil}},
		}},
		"headers that nearly fill a frame": {Body: []byte("{}"), Headers: amqp.Table{"large": strings.Repeat("x", 130_000)}},
		"a body of 10 MiB":                 {Body: bytes.Repeat([]byte("0123456789abcdef"), 10<<20/16)},
		"properties that are not UTF-8":    {MessageId: "\xff\xfe", Type: "\xff", AppId: "\x00", ContentType: "\xff", Body: []byte("\xff")},
		"a timestamp in 1970":              {Timestamp: time.Unix(1, 0), Body: []byte("{}")},
		"a reply-to and a priority":        {ReplyTo: "somewhere", CorrelationId: "c", Priority: 7, Body: []byte("{}")},
	}
	for name, p := range external {
		if err := channel.PublishWithContext(t.Context(), options.Exchange, "entry.0", true, false, p); err != nil {
			t.Fatal(err)
		}
		d := receive(t, deliveries)
		if !bytes.Equal(d.Message.Body, p.Body) || d.Message.ID != p.MessageId || d.Message.Attempt != 0 {
			t.Errorf("%s: delivered %q with %d bytes", name, d.Message.ID, len(d.Message.Body))
		}
		if err := d.Settler.Retry(t.Context()); err != nil {
			t.Fatalf("%s: retry: %v", name, err)
		}
		d = receive(t, deliveries)
		if !bytes.Equal(d.Message.Body, p.Body) || d.Message.ID != p.MessageId || d.Message.Attempt != 1 {
			t.Errorf("%s: after the retry, delivered %q with %d bytes and attempt %d", name, d.Message.ID, len(d.Message.Body), d.Message.Attempt)
		}
		if err := d.Settler.DeadLetter(t.Context(), broker.Reason{Stage: "parse", Detail: "of an external publisher"}); err != nil {
			t.Fatalf("%s: dead-letter: %v", name, err)
		}
		letters := drain(t, channel, options.Exchange+".dead")
		if len(letters) != 1 {
			t.Fatalf("%s: there are %d dead letters", name, len(letters))
		}
		assertExternal(t, name, letters[0], p)
	}
}

func assertExternal(t *testing.T, name string, letter amqp.Delivery, p amqp.Publishing) {
	t.Helper()
	if !bytes.Equal(letter.Body, p.Body) {
		t.Errorf("%s: the body of the dead letter differs", name)
	}
	wantProperties := []any{p.ContentType, p.CorrelationId, p.ReplyTo, p.MessageId, p.Type, p.AppId, p.Priority, p.Timestamp.Unix()}
	gotProperties := []any{
		letter.ContentType, letter.CorrelationId, letter.ReplyTo, letter.MessageId, letter.Type, letter.AppId,
		letter.Priority, letter.Timestamp.Unix(),
	}
	if diff := cmp.Diff(wantProperties, gotProperties); diff != "" {
		t.Errorf("%s: the properties differ (-want +got):\n%s", name, diff)
	}
	delete(letter.Headers, "x-delivery-count") // the server adds this header when it delivers the dead letter
	want := amqp.Table{
		event.HeaderAttempt: int64(1), event.HeaderStage: "parse", event.HeaderReason: "of an external publisher",
	}
	for header, value := range p.Headers {
		if _, ours := want[header]; !ours && header != "large" {
			want[header] = value
		}
	}
	if diff := cmp.Diff(want, letter.Headers); diff != "" {
		t.Errorf("%s: the headers differ (-want +got):\n%s", name, diff)
	}
}

// The server routes a message with a CC header to additional queues. A dead letter with this header would return there,
// in an endless loop.
func TestDeadLetter_MessageHasCCHeader_CopyOmitsTheHeader(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	b := newBroker(t, options)
	if err := b.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	further := amqp.Publishing{Headers: amqp.Table{"CC": []any{"entry.0"}}, Body: []byte("{}")}
	if err := dialServer(t, uri).PublishWithContext(t.Context(), options.Exchange, "exit.0", true, false, further); err != nil {
		t.Fatal(err)
	}
	d := receive(t, consume(t, b, broker.Queue{Type: event.TypeExit}, 1))
	if err := d.Settler.DeadLetter(t.Context(), broker.Reason{}); err != nil {
		t.Fatal(err)
	}
	awaitDepths(t, b, broker.Depths{Ready: 1, Dead: 1})
}

func TestBroker_ExpiredMessages_AreDeadLettered(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	b := newBroker(t, options)
	if err := b.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	expires := amqp.Publishing{Expiration: "1", Body: []byte("{}")}
	if err := dialServer(t, uri).PublishWithContext(t.Context(), options.Exchange, "entry.0", true, false, expires); err != nil {
		t.Fatal(err)
	}
	awaitDepths(t, b, broker.Depths{Dead: 1})
}

func TestBroker_DeletedQueues_AreDeclaredAgain(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	options.RetryDelay = 50 * time.Millisecond
	deletions := []struct {
		name   string
		delete func(*amqp.Channel) error
	}{
		{"nothing", func(*amqp.Channel) error { return nil }},
		{"the event queue", deletionOf(options.Exchange + ".entry.0")},
		{"the retry queue", deletionOf(options.Exchange + ".retry.entry.0")},
		{"the dead-letter queue", deletionOf(options.Exchange + ".dead")},
		{"the exchange", func(channel *amqp.Channel) error {
			return channel.ExchangeDelete(options.Exchange, false, false)
		}},
	}
	b := newBroker(t, options)
	channel := dialServer(t, uri)
	deliveries := consume(t, b, entries(), 1)
	for _, d := range deletions {
		t.Log("deleting", d.name)
		publish(t, b, entries(), broker.Message{ID: d.name})
		settleEachWay(t, b, deliveries)
		if err := d.delete(channel); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first pass may declare missing objects again; in the second pass, none may be missing
			publish(t, b, entries(), broker.Message{ID: "after " + d.name})
			settleEachWay(t, b, deliveries)
		}
		drain(t, dialServer(t, uri), options.Exchange+".dead")
	}
}

func TestPublish_UnroutableMessages_AreRepublished(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	b := newBroker(t, options)
	publish(t, b, entries(), broker.Message{ID: "1"})
	if err := deletionOf(options.Exchange + ".entry.0")(dialServer(t, uri)); err != nil {
		t.Fatal(err)
	}
	publish(t, b, entries(), broker.Message{ID: "2"}, broker.Message{ID: "3"}, broker.Message{})
	awaitDepths(t, b, broker.Depths{Ready: 3})
}

// settleEachWay receives a message and settles it with Retry. When the message comes back, settleEachWay settles it
// with DeadLetter.
func settleEachWay(t *testing.T, b *rabbitmq.Broker, deliveries <-chan broker.Delivery) {
	t.Helper()
	if err := receive(t, deliveries).Settler.Retry(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := receive(t, deliveries)
	if d.Message.Attempt != 1 {
		t.Errorf("the message came back at attempt %d", d.Message.Attempt)
	}
	if err := d.Settler.DeadLetter(t.Context(), broker.Reason{}); err != nil {
		t.Fatal(err)
	}
}

func deletionOf(queue string) func(*amqp.Channel) error {
	return func(channel *amqp.Channel) error {
		_, err := channel.QueueDelete(queue, false, false, false)
		return err
	}
}

func TestBroker_QueueHasOtherSettings_PublisherRetriesUntilTheQueueIsDeleted(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	channel := dialServer(t, uri)
	queue := options.Exchange + ".entry.0"
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	log := &logtest.Buffer{}
	options.Logger = log.Logger()
	began := time.Now()
	b := newBroker(t, options)
	err := b.Declare(t.Context())
	if err == nil || !strings.Contains(err.Error(), "it exists with other settings") || !strings.Contains(err.Error(), queue) {
		t.Errorf("declare returned %v", err)
	}
	confirmed := make(chan struct{})
	if err := b.Publish(t.Context(), entries(), broker.Message{ID: "1"}, func() { close(confirmed) }); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the fault is logged", func() bool {
		return strings.Contains(log.String(), "The broker is unavailable") && strings.Contains(log.String(), "other settings")
	})
	if err := deletionOf(queue)(channel); err != nil {
		t.Fatal(err)
	}
	select {
	case <-confirmed:
	case <-time.After(patience):
		t.Fatal("the message is not confirmed")
	}
	polltest.Until(t, "the recovery is logged", func() bool { return strings.Contains(log.String(), "The broker is available again") })
	assertOneOutage(t, log, began)
}

// assertOneOutage checks that the log contains the start and the end of exactly one outage. The parameter began must be
// a time before the start of the outage.
func assertOneOutage(t *testing.T, log *logtest.Buffer, began time.Time) {
	t.Helper()
	const reminder = 30 * time.Second // the interval at which the log repeats the start of a lasting outage
	most := 1 + int(time.Since(began)/reminder)
	down, up := strings.Count(log.String(), "The broker is unavailable"), strings.Count(log.String(), "available again")
	if down < 1 || down > most || up != 1 {
		t.Errorf("one fault is logged %d times, want at most %d, and its end %d times, want 1:\n%s", down, most, up, log)
	}
}

// Another program has declared a queue or an exchange with a name of the simulation but other settings.
func TestBrokerDelete_ObjectsWithOtherSettings_AreNotDeleted(t *testing.T) {
	t.Parallel()
	uri := servers.AMQPURI(t)
	options := optionsFor(t, uri)
	channel := dialServer(t, uri)
	queue := options.Exchange + ".entry.0"
	t.Cleanup(func() {
		for _, err := range []error{deletionOf(queue)(channel), channel.ExchangeDelete(options.Exchange, false, false)} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := channel.ExchangeDeclare(options.Exchange, "topic", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := channel.PublishWithContext(t.Context(), "", queue, false, false, amqp.Publishing{}); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the message is in the queue", func() bool {
		found, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err == nil && found.Messages == 1
	})
	log := &logtest.Buffer{}
	options.Logger = log.Logger()
	b := open(t, options)
	if err := b.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if found, err := channel.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil || found.Messages != 1 {
		t.Errorf("the queue has %d messages (%v), want 1", found.Messages, err)
	}
	if err := channel.ExchangeDeclarePassive(options.Exchange, "topic", true, false, false, false, nil); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"queue=" + queue, "exchange=" + options.Exchange} {
		if !strings.Contains(log.String(), name) {
			t.Errorf("the log does not name %s:\n%s", name, log)
		}
	}
	if exists, err := b.Exists(t.Context()); err != nil || !exists {
		t.Errorf("Exists returned false or an error (%v), although the queue and the exchange exist", err)
	}
}

// 'parking purge' knows only the name of the simulation, so it may assume another queue type than the simulation used.
func TestBrokerDelete_AnotherQueueType_RemovesTheQueues(t *testing.T) {
	t.Parallel()
	for declared, purged := range map[plan.QueueType]plan.QueueType{
		plan.QueueTypeClassic: plan.QueueTypeQuorum, plan.QueueTypeQuorum: plan.QueueTypeClassic,
	} {
		t.Run(string(declared), func(t *testing.T) {
			t.Parallel()
			options := optionsFor(t, servers.AMQPURI(t))
			options.QueueType = declared
			if err := newBroker(t, options).Declare(t.Context()); err != nil {
				t.Fatal(err)
			}
			options.QueueType = purged
			b := open(t, options)
			if err := b.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
			if exists, err := b.Exists(t.Context()); err != nil || exists {
				t.Errorf("Exists returned true or an error (%v) after Delete", err)
			}
		})
	}
}

func TestBroker_ReadsTheBindingBeforeEachAttemptToConnect(t *testing.T) {
	t.Parallel()
	uri, _ := url.Parse(servers.AMQPURI(t))
	wrong := *uri
	wrong.Host = servers.FreeAddress(t)
	var mu sync.Mutex
	reads, current, began := 0, &wrong, time.Now()
	log := &logtest.Buffer{}
	options := optionsFor(t, uri.String())
	options.Logger = log.Logger()
	options.Binding = func() (binding.Binding, error) {
		mu.Lock()
		defer mu.Unlock()
		reads++
		return binding.Binding{URI: current}, nil
	}
	b := open(t, options)
	defer func() {
		options.Binding = source(t, uri.String())
		deleteQueues(t, options)
	}()
	deliveries := consume(t, b, entries(), 1)
	consume(t, b, broker.Queue{Type: event.TypeExit}, 1)
	confirmed := make(chan struct{})
	if err := b.Publish(t.Context(), entries(), broker.Message{ID: "0"}, func() { close(confirmed) }); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "there were several attempts", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return reads >= 5
	})
	mu.Lock()
	current = uri // from now on, the binding contains the correct address
	mu.Unlock()
	<-confirmed
	receive(t, deliveries)
	polltest.Until(t, "the recovery is logged", func() bool { return strings.Contains(log.String(), "available again") })
	assertOneOutage(t, log, began)
	assertNoPassword(t, log, uri)
}

func TestBrokerCheck_UnreadableBinding_Fails(t *testing.T) {
	t.Parallel()
	options := optionsFor(t, "amqp://127.0.0.1")
	options.Binding = func() (binding.Binding, error) { return binding.Binding{}, io.ErrUnexpectedEOF }
	if err := open(t, options).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "look up the addresses and credentials of the broker") {
		t.Errorf("check returned %v", err)
	}
}

func TestDeclare_ContextEnds_Returns(t *testing.T) {
	t.Parallel()
	options := optionsFor(t, "amqp://u:secret@"+servers.FreeAddress(t))
	b := open(t, options)
	if _, err := b.Depths(t.Context()); err == nil || !strings.Contains(err.Error(), "start RabbitMQ there") {
		t.Errorf("depths returned %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Declare(ended); err == nil {
		t.Error("declare succeeded")
	}
}

func TestNewBroker_BrokersOfOneProcessShareMetrics(t *testing.T) {
	t.Parallel()
	options := optionsFor(t, servers.AMQPURI(t))
	registry := prometheus.NewRegistry()
	options.Registerer = registry
	publisher, consumer := newBroker(t, options), open(t, options)
	publish(t, publisher, entries(), broker.Message{ID: "1"})
	receive(t, consume(t, consumer, entries(), 1))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	connected := 0.0
	for _, family := range families {
		if family.GetName() != "parking_broker_connected" {
			continue
		}
		for _, m := range family.GetMetric() {
			connected += m.GetGauge().GetValue()
		}
	}
	if connected != 2 {
		t.Errorf("the metrics report %g connections, want one publisher and one consumer connection", connected)
	}
}

func TestNewBroker_InvalidConfig_ReturnsError(t *testing.T) {
	t.Parallel()
	valid := optionsFor(t, "amqp://127.0.0.1")
	for want, change := range map[string]func(*testOptions){
		"binding":        func(o *testOptions) { o.Binding = nil },
		"exchange":       func(o *testOptions) { o.Exchange = "" },
		"partitions":     func(o *testOptions) { o.Partitions = 0 },
		"queue type":     func(o *testOptions) { o.QueueType = plan.QueueType("stream") },
		"retry delay":    func(o *testOptions) { o.RetryDelay = time.Microsecond },
		"delivery limit": func(o *testOptions) { o.DeliveryLimit = -1 },
		"window":         func(o *testOptions) { o.Window = -1 },
		"component":      func(o *testOptions) { o.Component = strings.Repeat("x", 256) },
		"255 bytes":      func(o *testOptions) { o.Exchange = strings.Repeat("x", 250) },
	} {
		options := valid
		change(&options)
		if _, err := rabbitmq.New(options.Config, options.Dependencies); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with a wrong %s, New returned %v", want, err)
		}
	}
}

func publish(t testing.TB, b broker.Broker, q broker.Queue, messages ...broker.Message) {
	t.Helper()
	for _, msg := range messages {
		if err := b.Publish(t.Context(), q, msg, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.Flush(ctx); err != nil {
		t.Fatalf("wait for the confirms: %v", err)
	}
}

func consume(t testing.TB, b broker.Broker, q broker.Queue, prefetch int) <-chan broker.Delivery {
	t.Helper()
	deliveries, err := b.Consume(t.Context(), q, prefetch)
	if err != nil {
		t.Fatal(err)
	}
	return deliveries
}

func receive(t testing.TB, deliveries <-chan broker.Delivery) broker.Delivery {
	t.Helper()
	select {
	case d := <-deliveries:
		return d
	case <-time.After(patience):
		t.Fatal("no delivery")
		panic("unreachable")
	}
}

func awaitDepths(t *testing.T, b broker.Broker, want broker.Depths) {
	t.Helper()
	polltest.Until(t, fmt.Sprintf("the depths are %+v", want), func() bool {
		got, err := b.Depths(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got == want
	})
}

func assertNoPassword(t *testing.T, log *logtest.Buffer, uri *url.URL) {
	t.Helper()
	if password, _ := uri.User.Password(); password != "" && strings.Contains(log.String(), password) {
		t.Error("the password is in the log")
	}
}

// proxyTLS starts a TLS proxy for another address. It returns the address of the proxy, and the CA that has signed its
// certificate.
func proxyTLS(t *testing.T, to string) (address string, ca []byte) {
	t.Helper()
	authority := tlstest.NewAuthority(t, "test CA")
	return tlstest.Proxy(t, authority.ServerConfig(t, tls.NoClientCert), to), authority.PEM
}
