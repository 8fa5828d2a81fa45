package rabbitmq

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// planned is a session and a model of the server, which records the deliveries that are unsettled on the server.
type planned struct {
	session   *session
	now       time.Time
	delivered uint64
	held      map[uint64]*delivery // the deliveries that the server regards as unsettled
	out       outbox
}

func newPlanned(prefetch int) *planned {
	return &planned{
		session: &session{prefetch: prefetch, wake: make(chan struct{}, 1)},
		now:     time.Unix(1_900_000_000, 0),
		held:    make(map[uint64]*delivery),
	}
}

func (p *planned) deliver() *delivery {
	p.delivered++
	d := &delivery{session: p.session, tag: p.delivered}
	p.session.add(d)
	p.held[d.tag] = d
	return d
}

// flush applies the planned requests to a model of the server. It fails if a delivery is settled twice, or with a
// verdict other than the consumer's.
func (p *planned) flush() error {
	p.session.plan(&p.out, p.now)
	for _, tag := range p.out.requeues {
		if err := p.receive(tag, requeued); err != nil {
			return err
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(p.held)) {
		if tag <= p.out.prefix {
			if err := p.receive(tag, acknowledged); err != nil {
				return err
			}
		}
	}
	for _, tag := range p.out.singles {
		if err := p.receive(tag, acknowledged); err != nil {
			return err
		}
	}
	return nil
}

func (p *planned) receive(tag uint64, verdict verdict) error {
	d := p.held[tag]
	switch {
	case d == nil:
		return errors.New("a delivery is settled twice on the server")
	case d.verdict != verdict:
		return errors.New("the server receives another verdict")
	}
	delete(p.held, tag)
	return nil
}

// settledButHeld counts the deliveries that the consumer has settled, but whose settlement has not reached the server.
func (p *planned) settledButHeld() int {
	count := 0
	for _, d := range p.held {
		if d.verdict == acknowledged || d.verdict == requeued {
			count++
		}
	}
	return count
}

// settleAtRandom settles a delivery in a random way. A second settlement of the same delivery must return an error.
func (p *planned) settleAtRandom(t *rapid.T, tag uint64) {
	d := p.held[tag]
	from, wrong := d.verdict, false
	if from == acknowledged || from == requeued {
		from, wrong = unsettled, true
	}
	to := rapid.SampledFrom([]verdict{acknowledged, acknowledged, requeued, reserved}).Draw(t, "verdict")
	if err := p.session.settle(d, from, to); (err != nil) != wrong {
		t.Fatalf("settling returned %v", err)
	}
}

func TestSession_RandomSettlements_EachIsSentOnceWithinTheMaximumDelay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const prefetch = 12
		p := newPlanned(prefetch)
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				for range rapid.IntRange(0, prefetch-len(p.held)).Draw(t, "deliveries") {
					p.deliver()
				}
			},
			"settle": func(t *rapid.T) {
				for _, tag := range slices.Sorted(maps.Keys(p.held)) {
					if rapid.Bool().Draw(t, "settle") {
						p.settleAtRandom(t, tag)
					}
				}
			},
			"flush": func(t *rapid.T) {
				p.now = p.now.Add(gapPatience * time.Duration(rapid.IntRange(0, 7).Draw(t, "tenths")) / 10)
				if err := p.flush(); err != nil {
					t.Fatal(err)
				}
				if waiting := p.settledButHeld(); waiting > prefetch/2 || (waiting > 0) != (p.out.patience > 0) {
					t.Fatalf("%d settled deliveries wait, for up to %s", waiting, p.out.patience)
				}
			},
			"wait for gapPatience": func(t *rapid.T) {
				if err := p.flush(); err != nil {
					t.Fatal(err)
				}
				p.now = p.now.Add(gapPatience)
				if err := p.flush(); err != nil {
					t.Fatal(err)
				}
				if waiting := p.settledButHeld(); waiting != 0 {
					t.Fatalf("%d settled deliveries still wait", waiting)
				}
			},
		})
		p.session.finish(broker.ErrClosed)
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		if waiting := p.settledButHeld(); waiting != 0 || !p.out.last {
			t.Fatalf("at the end, %d settled deliveries wait, and the session ends: %t", waiting, p.out.last)
		}
	})
}

func TestSession_UnsettledDeliveryBetweenSettledOnes_DelaysTheLaterAcknowledgements(t *testing.T) {
	t.Parallel()
	p := newPlanned(100)
	var deliveries []*delivery
	for range 6 {
		deliveries = append(deliveries, p.deliver())
	}
	ack := func(tags ...int) {
		for _, tag := range tags {
			if err := deliveries[tag-1].Ack(); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
	}
	ack(1, 2, 4, 5) // delivery 3 is still being processed
	if p.out.prefix != 2 || len(p.out.singles) != 0 || p.out.patience != gapPatience {
		t.Fatalf("while delivery 3 is unsettled, the session sends %+v", p.out)
	}
	ack(3)
	if p.out.prefix != 5 || len(p.out.singles) != 0 || p.out.patience != 0 {
		t.Fatalf("after delivery 3 is settled, the session sends %+v", p.out)
	}
}

func TestSession_Retired_CancelsTheConsumerOnce(t *testing.T) {
	t.Parallel()
	p := newPlanned(2)
	d := p.deliver()
	p.session.retire()
	steps := []struct {
		step         func()
		cancel, last bool
	}{
		{func() {}, true, false},
		{p.session.markDrained, false, false},
		{func() { _ = d.Ack() }, false, true},
	}
	for i, s := range steps {
		s.step()
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		if p.out.cancel != s.cancel || p.out.last != s.last {
			t.Errorf("step %d: cancel %t, last %t", i, p.out.cancel, p.out.last)
		}
	}
}

func TestSession_SettlementsAfterCancellation_AreFollowedByAFlush(t *testing.T) {
	t.Parallel()
	p := newPlanned(4)
	settle := func(d *delivery, to verdict) {
		t.Helper()
		if err := p.session.settle(d, unsettled, to); err != nil {
			t.Fatal(err)
		}
	}
	plan := func(want outbox) {
		t.Helper()
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		if got := p.out; got.cancel != want.cancel || got.last != want.last || got.flush != want.flush {
			t.Errorf("cancel, last, flush: %t %t %t, want %t %t %t", got.cancel, got.last, got.flush, want.cancel, want.last, want.flush)
		}
	}
	first, second, third := p.deliver(), p.deliver(), p.deliver()
	settle(first, acknowledged)
	p.session.retire()
	plan(outbox{cancel: true})
	settle(second, requeued)
	plan(outbox{})
	settle(third, acknowledged)
	p.session.markDrained()
	plan(outbox{last: true, flush: true})

	p = newPlanned(4)
	settle(p.deliver(), acknowledged)
	p.session.retire()
	plan(outbox{cancel: true})
	p.session.markDrained()
	plan(outbox{last: true}) // no flush, because no delivery was settled after the consumer was canceled
}
