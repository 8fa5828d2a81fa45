package rabbitmq

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/binding"
	"github.com/parking-operator/parking-operator/internal/outage"
)

func TestLink_ConnectionLost_IsLoggedUnlessTheProgramClosedIt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		closed bool
		want   string
	}{
		{"a connection that is lost", false, "down"},
		{"a connection that the broker closes itself", true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var text bytes.Buffer
			log := slog.New(slog.NewTextHandler(&text, nil))
			shared, err := newMetrics(nil)
			if err != nil {
				t.Fatal(err)
			}
			closed := make(chan struct{})
			l := &link{outages: outage.New(log, "down", "up"), part: "a", lost: new(atomic.Pointer[error]), gauges: shared.of("publish"), closed: closed}
			if tt.closed {
				close(closed)
			}
			closes := make(chan *amqp.Error, 1)
			closes <- &amqp.Error{Code: amqp.FrameError, Reason: "use of closed network connection"}
			l.watch(closes, nil)
			if got := text.String(); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("logged %q, want %q", got, tt.want)
			}
		})
	}
}

// The connections of a broker share one outage. It lasts until all of them are open again.
func TestLink_AnotherLinkReconnects_OutageContinues(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		broker := newBroker(t, log)
		const attempt = 10 * time.Second
		broker.publish.connect = func(context.Context) (*connection, error) {
			time.Sleep(attempt)
			return nil, errors.New("timed out")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = broker.publish.get(ctx) // the call returns when ctx ends
		}()
		time.Sleep(attempt + time.Second)
		broker.outages.Fine(broker.consume.part, broker.admin.part) // the other two links have connected
		time.Sleep(2 * attempt)
		cancel()
		<-done
		synctest.Wait()
		if strings.Contains(text.String(), "available again") {
			t.Errorf("the outage ended while a link could not connect:\n%s", &text)
		}
	})
}

func TestLink_BlockedAgainAndAgain_IsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		l := newBroker(t, log).publish
		for range 10 {
			l.reportBlocked(amqp.Blocking{Active: true, Reason: "low on memory"})
			time.Sleep(time.Second)
			l.reportBlocked(amqp.Blocking{})
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if blocked, free := strings.Count(text.String(), "blocks publishers"), strings.Count(text.String(), "accepts messages again"); blocked != 1 || free != 1 {
			t.Errorf("logged the beginning %d times and the end %d times:\n%s", blocked, free, &text)
		}
	})
}

func TestLink_BlockedForALongTime_OutageLastsUntilTheServerUnblocksTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		l := newBroker(t, slog.New(slog.NewTextHandler(&text, nil))).publish
		closes, blocks := make(chan *amqp.Error), make(chan amqp.Blocking)
		go l.watch(closes, blocks)
		blocks <- amqp.Blocking{Active: true, Reason: "low on memory"}
		time.Sleep(time.Hour)
		synctest.Wait()
		const end = "accepts messages again"
		if strings.Contains(text.String(), end) {
			t.Errorf("the end was logged although the server still blocks the connection:\n%s", &text)
		}
		blocks <- amqp.Blocking{}
		time.Sleep(time.Minute)
		close(closes)
		synctest.Wait()
		if strings.Count(text.String(), end) != 1 {
			t.Errorf("the end was not logged once:\n%s", &text)
		}
	})
}

// The outage must end although the lost connection is not used again.
func TestLink_IdleAfterConnectionLoss_OutageEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		broker := newBroker(t, slog.New(slog.NewTextHandler(&text, nil)))
		closes := make(chan *amqp.Error, 1)
		closes <- &amqp.Error{Code: amqp.ConnectionForced, Reason: "shutdown"}
		broker.publish.watch(closes, nil)
		broker.outages.Fine(broker.consume.part, broker.admin.part) // report that the other two links have connected
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !strings.Contains(text.String(), "available again") {
			t.Errorf("the outage has no end:\n%s", &text)
		}
	})
}

func newBroker(t *testing.T, log *slog.Logger) *Broker {
	t.Helper()
	b, err := New(Config{Exchange: "parking.a", Partitions: 1}, Dependencies{Binding: binding.Static(binding.Binding{}), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
