package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/parking-operator/parking-operator/internal/event"
)

// These limits are the same as in the RabbitMQ adapter that the pipeline uses.
const (
	window   = 1024 // unconfirmed messages per publisher
	prefetch = 2048 // unsettled deliveries per consumer
	ackEvery = 256  // deliveries per acknowledgement; the saturated pipeline coalesces about 300
	backlog  = 4096 // published but not acknowledged messages per queue
)

// ceilingExchange is the exchange for the measurement of the broker alone. It routes a message to the queue whose name
// is the routing key.
const ceilingExchange = "ceiling"

// ceilingQueue returns the name of the queue for an event type. As in a simulation with one partition, there is one
// queue per event type.
func ceilingQueue(t event.Type) string { return ceilingExchange + "." + string(t) }

// runCeiling measures the throughput of the broker alone, which is an upper limit for the pipeline. It publishes with
// confirms, consumes, and acknowledges as fast as the broker allows. The number of unacknowledged messages per queue is
// limited to the constant backlog, so that publishers do not get far ahead of consumers. Until ctx ends, runCeiling
// prints the number of acknowledged messages four times a second.
func runCeiling(ctx context.Context, uri string) error {
	var acked atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range event.Types() {
		credit := make(chan struct{}, backlog)
		group.Go(func() error { return publishBare(ctx, uri, t, credit) })
		group.Go(func() error { return consumeBare(ctx, uri, ceilingQueue(t), credit, &acked) })
	}
	group.Go(func() error { return printSamples(ctx, &acked) })
	return group.Wait()
}

func publishBare(ctx context.Context, uri string, t event.Type, credit chan<- struct{}) error {
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
	run := event.NewRun()
	for seq := int64(0); ; seq++ {
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

// publishing returns the AMQP message that a generator would publish for an event.
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

func consumeBare(ctx context.Context, uri, queue string, credit <-chan struct{}, acked *atomic.Int64) error {
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
		if unacked++; unacked < ackEvery {
			continue
		}
		if err := d.Ack(true); err != nil {
			return fmt.Errorf("acknowledge on %s: %w", queue, err)
		}
		acked.Add(unacked)
		unacked = 0
	}
	return nil
}

// sample contains the number of acknowledged messages and the CPU time used, from the start until the time At.
type sample struct {
	At    time.Time                `json:"at"`
	Count int64                    `json:"count"`
	CPU   map[string]time.Duration `json:"cpu"`
}

// since returns the message rate and the CPU time per message between two samples.
func (s sample) since(earlier sample) ceilingResult {
	messages := float64(s.Count - earlier.Count)
	r := ceilingResult{
		PerSecond: messages / s.At.Sub(earlier.At).Seconds(),
		CPUMicros: map[string]float64{},
	}
	for name, cpu := range s.CPU {
		r.CPUMicros[name] = float64((cpu - earlier.CPU[name]).Microseconds()) / messages
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
			clients, err := cpuOf(os.Getpid())
			if err != nil {
				return err
			}
			broker, err := cpuByName(os.Getppid(), "beam.smp") // the broker is a sibling of this process
			if err != nil {
				return err
			}
			s := sample{At: now, Count: count.Load(), CPU: map[string]time.Duration{"clients": clients, "beam.smp": broker}}
			if err := out.Encode(s); err != nil {
				return fmt.Errorf("print a sample: %w", err)
			}
		}
	}
}

// ceilingResult is the result of measuring the broker alone.
type ceilingResult struct {
	// PerSecond is the number of messages per second that were published, consumed and acknowledged.
	PerSecond float64 `json:"perSecond"`
	// CPUMicros is the CPU time per message in microseconds. The broker and its clients have separate values.
	CPUMicros map[string]float64 `json:"cpuMicrosPerMessage"`
}

// measureCeiling measures the broker alone. The clients run in a separate process, so that their CPU time can be
// measured.
func measureCeiling(ctx context.Context, env environment, warmUp, length time.Duration) (ceilingResult, error) {
	if err := declareCeiling(env.amqpURI); err != nil {
		return ceilingResult{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, warmUp+length)
	defer cancel()
	child := exec.CommandContext(ctx, "/proc/self/exe", "ceiling")
	child.Env = append(os.Environ(), ceilingURI+"="+env.amqpURI)
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	child.WaitDelay = 5 * time.Second
	child.Stderr = os.Stderr
	output, err := child.Output()
	if err != nil && ctx.Err() == nil {
		return ceilingResult{}, fmt.Errorf("measure the bare broker: %w", err)
	}
	samples, err := readSamples(output)
	if err != nil {
		return ceilingResult{}, err
	}
	first := slices.IndexFunc(samples, func(s sample) bool { return s.At.Sub(samples[0].At) >= warmUp })
	if first < 0 || first == len(samples)-1 {
		return ceilingResult{}, errors.New("measure the bare broker: there are too few samples: use a larger -length")
	}
	return samples[len(samples)-1].since(samples[first]), deleteCeiling(env.amqpURI)
}

func readSamples(output []byte) ([]sample, error) {
	var samples []sample
	lines := bufio.NewScanner(bytes.NewReader(output))
	for lines.Scan() {
		var s sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("read a sample of the bare broker: %w", err)
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// declareCeiling declares the queues for runCeiling. They are quorum queues, like those of a simulation.
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

// deleteCeiling deletes the queues of runCeiling, so that the messages left in them do not slow down the next
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
