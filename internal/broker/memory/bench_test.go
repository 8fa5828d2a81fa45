package memory_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/broker/memory"
	"github.com/parking-operator/parking-operator/internal/event"
)

// BenchmarkPublishToAck publishes, confirms, delivers and acknowledges messages.
func BenchmarkPublishToAck(b *testing.B) {
	for _, workers := range []int{1, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			client := newBroker(b, memory.Config{Partitions: 1})
			deliveries, err := client.Consume(b.Context(), broker.Queue{Type: event.TypeEntry}, 1024)
			if err != nil {
				b.Fatal(err)
			}
			var acknowledging sync.WaitGroup
			for range workers {
				acknowledging.Go(func() {
					for d := range deliveries {
						if err := d.Settler.Ack(); err != nil {
							b.Error(err)
						}
					}
				})
			}
			now := time.Now()
			msg := broker.Message{
				ID: "0123456789abc-0-0", Type: event.TypeEntry, AppID: event.AppID, Timestamp: now, Scheduled: now,
				Body: []byte(`{"id":"0123456789abc-0-0"}`),
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := client.Publish(b.Context(), broker.Queue{Type: event.TypeEntry}, msg, func() {}); err != nil {
					b.Fatal(err)
				}
			}
			awaitEmpty(b, client)
			b.StopTimer()
			_ = client.Close()
			acknowledging.Wait()
		})
	}
}

func awaitEmpty(b *testing.B, client broker.Broker) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for {
		depths, err := client.Depths(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if depths == (broker.Depths{}) {
			return
		}
		select {
		case <-ctx.Done():
			b.Fatal("the queue is not empty in time")
		case <-ticker.C:
		}
	}
}
