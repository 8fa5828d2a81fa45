package rabbitmq

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

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
			metrics, err := newCollectors(nil)
			if err != nil {
				t.Fatal(err)
			}
			closed := make(chan struct{})
			l := &link{outages: outage.New(log, "down", "up"), log: log, gauges: metrics.of("publish"), closed: closed}
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
