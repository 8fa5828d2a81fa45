package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/parking-operator/parking-operator/internal/event"
)

// window and prefetch are the same as in the generators and processors that the benchmark measures.
const (
	window   = 1024 // the maximum number of unconfirmed messages per publisher
	prefetch = 2048 // the maximum number of unsettled deliveries per consumer
	ackEvery = 256  // the maximum number of deliveries per acknowledgement, close to the 300 of a saturated processor
	backlog  = 4096 // the maximum number of published messages per queue that are not consumed yet
)

// ceilingExchange is the exchange for the measurement of the broker alone. It routes a message to the queue whose name
// is the routing key.
const ceilingExchange = "ceiling"

// ceilingQueue returns the name of the queue for an event type. There is one queue per type, as in a simulation with
// one partition.
func ceilingQueue(t event.Type) string { return ceilingExchange + "." + string(t) }

// runCeiling measures the broker alone with confirmed and acknowledged messages, and prints samples until ctx ends. The
// parameter offered is the total number of messages to publish per second; 0 means as many as possible.
func runCeiling(ctx context.Context, uri string, offered int64) error {
	var consumed atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range event.Types() {
		credit := make(chan struct{}, backlog)
		group.Go(func() error { return publishBare(ctx, uri, t, offered/2, credit) })
		group.Go(func() error { return consumeBare(ctx, uri, t, ackBatch(offered/2), credit, &consumed) })
	}
	group.Go(func() error { return printSamples(ctx, &consumed) })
	return group.Wait()
}

// ackBatch returns the number of deliveries per acknowledgement. The parameter rate is the number of messages per
// second in one queue; 0 means no limit. With a limit, a delivery waits at most 1/20 s for its acknowledgement.
func ackBatch(rate int64) int64 {
	if rate == 0 {
		return ackEvery
	}
	return min(max(1, rate/20), ackEvery)
}

// publishBare publishes messages at an even rate per second; 0 means without pauses. Each unconsumed message occupies a
// slot of the channel credit.
func publishBare(ctx context.Context, uri string, t event.Type, rate int64, credit chan<- struct{}) error {
	queue := ceilingQueue(t)
	conn, channel, err := openChannel(uri)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := channel.Confirm(false); err != nil {
		return fmt.Errorf("enable confirms: %w", err)
	}
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, window))
	unconfirmed := make(chan struct{}, window)
	go func() {
		for range confirms {
			<-unconfirmed
		}
	}()
	run, start, due := event.NewRun(), time.Now(), time.NewTimer(0)
	for seq := int64(0); ; seq++ {
		if rate > 0 {
			due.Reset(time.Until(start.Add(time.Duration(seq) * time.Second / time.Duration(rate))))
			select {
			case <-due.C:
			case <-ctx.Done():
				return nil
			}
		}
		for _, c := range []chan<- struct{}{credit, unconfirmed} {
			select {
			case c <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
		}
		if err := channel.PublishWithContext(ctx, ceilingExchange, queue, true, false, publishing(t, run, seq)); err != nil {
			return fmt.Errorf("publish to %s: %w", queue, err)
		}
	}
}

// publishing returns the AMQP message that a generator publishes for an event.
func publishing(t event.Type, run string, seq int64) amqp.Publishing {
	now := time.Now()
	id := event.ID{Run: run, Seq: seq}.String()
	const plate = "ABC-1234"
	headers, body := amqp.Table{event.HeaderScheduled: now.UnixNano()}, []byte(nil)
	switch t {
	case event.TypeEntry:
		body = event.AppendEntry(nil, event.Entry{ID: id, Plate: plate, At: now})
	case event.TypeExit:
		headers[event.HeaderIntent] = string(event.IntentUnmatched)
		body = event.AppendExit(nil, event.Exit{ID: id, Plate: plate, At: now})
	}
	return amqp.Publishing{
		Headers:      headers,
		ContentType:  event.ContentType,
		DeliveryMode: amqp.Persistent,
		MessageId:    id,
		Timestamp:    now,
		Type:         string(t),
		AppId:        event.AppID,
		Body:         body,
	}
}

// consumeBare consumes the messages of a queue. One acknowledgement covers the given number of deliveries.
func consumeBare(ctx context.Context, uri string, t event.Type, batch int64, credit <-chan struct{}, consumed *atomic.Int64) error {
	queue := ceilingQueue(t)
	conn, channel, err := openChannel(uri)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := channel.Qos(prefetch, 0, false); err != nil {
		return fmt.Errorf("set prefetch: %w", err)
	}
	deliveries, err := channel.ConsumeWithContext(ctx, queue, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume %s: %w", queue, err)
	}
	unacked := int64(0)
	for d := range deliveries {
		<-credit
		consumed.Add(1)
		if unacked++; unacked < batch {
			continue
		}
		if err := d.Ack(true); err != nil {
			return fmt.Errorf("acknowledge on %s: %w", queue, err)
		}
		unacked = 0
	}
	return nil
}

// These are the names of the processes that measureCeiling measures.
const (
	clientsName = "clients"
	brokerName  = "beam.smp"
)

// sample contains totals up to the time At: the number of consumed messages, and the resource usage of each process.
type sample struct {
	At    time.Time         `json:"at"`
	Count int64             `json:"count"`
	Used  map[string]effort `json:"used"`
}

func (s sample) since(earlier sample) ceilingResult {
	messages := float64(s.Count - earlier.Count)
	r := ceilingResult{
		PerSecond:  messages / s.At.Sub(earlier.At).Seconds(),
		PerMessage: map[string]effort{},
	}
	for name, used := range s.Used {
		r.PerMessage[name] = used.perEvent(earlier.Used[name], messages)
	}
	return r
}

func printSamples(ctx context.Context, count *atomic.Int64) error {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	out := json.NewEncoder(os.Stdout)
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			clients, err := effortOf(os.Getpid())
			if err != nil {
				return err
			}
			// The broker is a child of the benchmark, which is the parent of this process.
			broker, err := effortByName(os.Getppid(), brokerName)
			if err != nil {
				return err
			}
			s := sample{At: now, Count: count.Load(), Used: map[string]effort{clientsName: clients, brokerName: broker}}
			if err := out.Encode(s); err != nil {
				return fmt.Errorf("print a sample: %w", err)
			}
		}
	}
}

type ceilingResult struct {
	OfferedPerSecond int64 `json:"offeredPerSecond,omitempty"`
	// PerSecond is the number of messages per second that were published, consumed and acknowledged.
	PerSecond float64 `json:"perSecond"`
	// PerMessage contains the resource usage per message, of the broker and of its clients. The key is the name of the
	// process.
	PerMessage map[string]effort `json:"perMessage"`
}

// measureCeiling measures the broker alone at the offered rate; 0 means the maximum. The clients run in a child
// process, so that their CPU time can be measured.
func measureCeiling(ctx context.Context, env environment, offered int64, warmUp, length time.Duration) (ceilingResult, error) {
	if err := declareCeiling(env.amqpURI); err != nil {
		return ceilingResult{}, err
	}
	child := exec.CommandContext(ctx, "/proc/self/exe", childCeiling, strconv.FormatInt(offered, 10))
	child.Env = append(os.Environ(), ceilingURI+"="+env.amqpURI)
	child.Stderr = os.Stderr
	output, err := child.StdoutPipe()
	if err != nil {
		return ceilingResult{}, fmt.Errorf("measure the bare broker: %w", err)
	}
	if err := child.Start(); err != nil {
		return ceilingResult{}, fmt.Errorf("measure the bare broker: %w", err)
	}
	first, last, err := readSamples(output, warmUp, length)
	_ = child.Process.Signal(os.Interrupt)
	if err := errors.Join(err, child.Wait()); err != nil {
		return ceilingResult{}, err
	}
	r := last.since(first)
	r.OfferedPerSecond = offered
	return r, deleteCeiling(env.amqpURI)
}

// readSamples returns the samples at the beginning and at the end of the measurement, which follows the warm-up.
func readSamples(output io.Reader, warmUp, length time.Duration) (first, last sample, err error) {
	var begin time.Time
	for samples := json.NewDecoder(output); ; {
		var s sample
		if err := samples.Decode(&s); err != nil {
			return first, last, fmt.Errorf("measure the bare broker: read the output of the clients: %w", err)
		}
		switch {
		case s.Count == 0:
		case begin.IsZero():
			begin = s.At
		case first.At.IsZero():
			if s.At.Sub(begin) >= warmUp {
				first = s
			}
		case s.At.Sub(first.At) >= length && s.Count > first.Count:
			return first, s, nil
		}
	}
}

// total returns the CPU time per message of all processes together, in microseconds.
func (r ceilingResult) total() float64 { return sumOf(maps.Values(r.PerMessage))[cpuMicros] }

// declareCeiling declares the queues for runCeiling: quorum queues, like the queues of a simulation.
func declareCeiling(uri string) error {
	conn, channel, err := openChannel(uri)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := channel.ExchangeDeclare(ceilingExchange, amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare the exchange: %w", err)
	}
	for _, t := range event.Types() {
		queue := ceilingQueue(t)
		args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
		if _, err := channel.QueueDeclare(queue, true, false, false, false, args); err != nil {
			return fmt.Errorf("declare %s: %w", queue, err)
		}
		if err := channel.QueueBind(queue, queue, ceilingExchange, false, nil); err != nil {
			return fmt.Errorf("bind %s: %w", queue, err)
		}
	}
	return nil
}

// deleteCeiling deletes the queues of runCeiling, so that their remaining messages do not slow down the next
// measurement.
func deleteCeiling(uri string) error {
	conn, channel, err := openChannel(uri)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, t := range event.Types() {
		queue := ceilingQueue(t)
		if _, err := channel.QueueDelete(queue, false, false, false); err != nil {
			return fmt.Errorf("delete %s: %w", queue, err)
		}
	}
	return nil
}

func openChannel(uri string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.Dial(uri)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the broker: %w", err)
	}
	channel, err := conn.Channel()
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("open a channel: %w", err)
	}
	return conn, channel, nil
}
