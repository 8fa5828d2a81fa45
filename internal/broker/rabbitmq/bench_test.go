//go:build unix

package rabbitmq_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/rabbitmq"
	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/pingtest"
	"github.com/parking-operator/parking-operator/test/servers"
)

// The benchmarks report the CPU time and memory that this process uses per message. The elapsed time also
// includes the server.

func BenchmarkPublishAndConfirm(b *testing.B) {
	client := newBenchmarkBroker(b)
	reportCPU(b, func() { publishAll(b, client, b.N) })
}

// BenchmarkConsumeAndAck settles deliveries like a processor: from many goroutines, roughly in the order in which they
// arrive.
func BenchmarkConsumeAndAck(b *testing.B) {
	for _, settlers := range []int{1, 64} {
		b.Run(fmt.Sprintf("settlers=%d", settlers), func(b *testing.B) {
			client := newBenchmarkBroker(b)
			publishAll(b, client, b.N)
			reportCPU(b, func() { ackAll(b, client, b.N, settlers) })
		})
	}
}

func newBenchmarkBroker(b *testing.B) *rabbitmq.Broker {
	b.Helper()
	client := newBroker(b, optionsFor(b, servers.AMQPURI(b)))
	if err := client.Declare(b.Context()); err != nil {
		b.Fatal(err)
	}
	return client
}

func benchmarkQueue() broker.Queue { return broker.Queue{Type: event.TypeEntry} }

func publishAll(b *testing.B, client broker.Broker, count int) {
	b.Helper()
	run := event.NewRun()
	for n := range count {
		now := time.Now()
		e := event.Entry{ID: event.ID{Run: run, Seq: int64(n)}.String(), Plate: "ABC-1234", At: now}
		msg := broker.Message{
			ID: e.ID, Type: event.TypeEntry, AppID: event.AppID, Timestamp: now, Scheduled: now,
			Body: event.AppendEntry(nil, e),
		}
		if err := client.Publish(b.Context(), benchmarkQueue(), msg, func() {}); err != nil {
			b.Fatal(err)
		}
	}
	if err := client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func ackAll(b *testing.B, client broker.Broker, count, settlers int) {
	b.Helper()
	deliveries, err := client.Consume(b.Context(), benchmarkQueue(), 1024)
	if err != nil {
		b.Fatal(err)
	}
	work := make(chan broker.Delivery, settlers)
	var settling sync.WaitGroup
	for range settlers {
		settling.Go(func() {
			for d := range work {
				if err := d.Settler.Ack(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for range count {
		work <- <-deliveries
	}
	close(work)
	settling.Wait()
}

// reportCPU runs f and reports how much CPU time it used per operation.
func reportCPU(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	before := pingtest.CPUTime(b)
	f()
	b.ReportMetric(float64(pingtest.CPUTime(b)-before)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
}
