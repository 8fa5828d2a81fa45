package memory

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

func TestConsumer_EndedAndAllDeliveriesSettled_SessionIsRemoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Config{Partitions: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Close() }()
		name := broker.Queue{Type: event.TypeEntry}
		if err := b.Publish(t.Context(), name, broker.Message{}, func() {}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		deliveries, err := b.Consume(ctx, name, 2)
		if err != nil {
			t.Fatal(err)
		}
		d := <-deliveries
		cancel()
		synctest.Wait()
		q := b.queues[name]
		if len(q.consumers) != 0 || len(q.sessions) != 1 {
			t.Errorf("with a delivery unsettled there are %d consumers and %d sessions", len(q.consumers), len(q.sessions))
		}
		if err := d.Settler.Ack(); err != nil {
			t.Fatal(err)
		}
		if len(q.sessions) != 0 {
			t.Errorf("there are %d sessions", len(q.sessions))
		}
	})
}
