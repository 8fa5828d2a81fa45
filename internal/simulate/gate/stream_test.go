package gate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// settler is a fake Settler that counts the calls of Requeue.
type settler struct {
	broker.Settler
	gate     *Gate
	requeued int
}

func (s *settler) Requeue() error {
	s.requeued++
	return nil
}

func (s *settler) Retry(context.Context) error {
	s.gate.set(cut)
	s.gate.set(open)
	synctest.Wait() // wait until the gate has called stream.lose in another goroutine
	return errors.New("the retry queue is full")
}

func newStream(g *Gate) *stream {
	s := &stream{gate: g, unsettled: make(map[*gatedSettler]struct{})}
	s.remove = g.onCut(s.lose)
	return s
}

// When a connection is cut, its unsettled deliveries are requeued. A delivery that is added later would never be
// requeued.
func TestStream_DeliveryOfCutConnection_IsNotAdded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New()
		s := newStream(g)
		connection, err := g.await(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g.set(cut)
		g.set(open)
		synctest.Wait()
		if s.add(&gatedSettler{stream: s}, connection) || len(s.unsettled) > 0 {
			t.Error("the delivery was added after the connection had been cut")
		}
		connection, err = g.await(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !s.add(&gatedSettler{stream: s}, connection) || len(s.unsettled) != 1 {
			t.Error("the delivery of the current connection was not added")
		}
	})
}

func TestGatedSettler_ConnectionCutDuringFailedRetry_RequeuesTheMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := New()
		s, inner := newStream(g), &settler{gate: g}
		d := &gatedSettler{stream: s, inner: inner}
		if !s.add(d, 0) {
			t.Fatal("the delivery was not added")
		}
		if err := d.Retry(t.Context()); !errors.Is(err, broker.ErrSessionLost) || inner.requeued != 1 {
			t.Errorf("Retry returned %v, and the message was requeued %d times; want ErrSessionLost and 1", err, inner.requeued)
		}
	})
}
