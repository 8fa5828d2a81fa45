package rabbitmq

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

func TestDecode_InvalidHeaders_AreIgnored(t *testing.T) {
	t.Parallel()
	scheduled := time.Unix(0, 1_900_000_000_123_456_789).UTC()
	tests := []struct {
		name    string
		headers amqp.Table
		want    broker.Message
	}{
		{"no headers", nil, broker.Message{}},
		{"headers of this program", amqp.Table{
			event.HeaderIntent: "matched", event.HeaderScheduled: scheduled.UnixNano(), event.HeaderAttempt: int64(3),
		}, broker.Message{Intent: event.IntentMatched, Scheduled: scheduled, Attempt: 3}},
		{"the intent unmatched", amqp.Table{event.HeaderIntent: "unmatched"}, broker.Message{Intent: event.IntentUnmatched}},
		{"an unknown intent", amqp.Table{event.HeaderIntent: "perhaps"}, broker.Message{}},
		{"an intent as bytes", amqp.Table{event.HeaderIntent: []byte("matched")}, broker.Message{}},
		{"an intent as a table", amqp.Table{event.HeaderIntent: amqp.Table{"matched": true}}, broker.Message{}},
		{"a null intent", amqp.Table{event.HeaderIntent: nil}, broker.Message{}},
		{"a scheduled time as a timestamp", amqp.Table{event.HeaderScheduled: time.Now()}, broker.Message{}},
		{"a scheduled time as a string", amqp.Table{event.HeaderScheduled: "1900000000000000000"}, broker.Message{}},
		{"a scheduled time as int32", amqp.Table{event.HeaderScheduled: int32(5)}, broker.Message{}},
		{"a negative scheduled time", amqp.Table{event.HeaderScheduled: int64(-1)}, broker.Message{}},
		{"attempts as int8", amqp.Table{event.HeaderAttempt: int8(7)}, broker.Message{Attempt: 7}},
		{"attempts as uint8", amqp.Table{event.HeaderAttempt: uint8(200)}, broker.Message{Attempt: 200}},
		{"attempts as int16", amqp.Table{event.HeaderAttempt: int16(300)}, broker.Message{Attempt: 300}},
		{"attempts as uint16", amqp.Table{event.HeaderAttempt: uint16(40000)}, broker.Message{Attempt: 40000}},
		{"attempts as int32", amqp.Table{event.HeaderAttempt: int32(70000)}, broker.Message{Attempt: 70000}},
		{"attempts as uint32", amqp.Table{event.HeaderAttempt: uint32(80000)}, broker.Message{Attempt: 80000}},
		{"negative attempts", amqp.Table{event.HeaderAttempt: int64(-5)}, broker.Message{}},
		{"the smallest number of attempts", amqp.Table{event.HeaderAttempt: int64(math.MinInt64)}, broker.Message{}},
		{"the largest number of attempts", amqp.Table{event.HeaderAttempt: int64(math.MaxInt64)}, broker.Message{Attempt: math.MaxInt32 - 1}},
		{"attempts as a float", amqp.Table{event.HeaderAttempt: 2.5}, broker.Message{}},
		{"attempts as a string", amqp.Table{event.HeaderAttempt: "2"}, broker.Message{}},
		{"attempts as a list", amqp.Table{event.HeaderAttempt: []any{int32(2)}}, broker.Message{}},
		{"attempts as a decimal", amqp.Table{event.HeaderAttempt: amqp.Decimal{Scale: 1, Value: 2}}, broker.Message{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := decode(&amqp.Delivery{Headers: tt.headers})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decode returned another message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCopyOf_MessageOfExternalPublisher_KeepsProperties(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_900_000_000, 0)
	original := amqp.Delivery{
		Headers: amqp.Table{
			"theirs": "a value", "nested": amqp.Table{"list": []any{int32(1), nil, true}},
			event.HeaderIntent: int32(1), event.HeaderAttempt: int16(4),
			"CC": []any{"entry.0"}, "BCC": []any{"entry.0"},
			"x-death": []any{amqp.Table{"count": int64(1)}}, "x-delivery-count": int64(9), "x-acquired-count": int64(9),
			"x-first-death-queue": "q", "x-last-death-queue": "q",
		},
		ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: amqp.Transient, Priority: 4,
		CorrelationId: "correlation", ReplyTo: "their.queue", Expiration: "0", MessageId: "id", Timestamp: at,
		Type: "type", UserId: "guest", AppId: "app", Body: []byte("body"),
	}
	want := amqp.Publishing{
		Headers: amqp.Table{
			"theirs": "a value", "nested": amqp.Table{"list": []any{int32(1), nil, true}},
			event.HeaderIntent: int32(1), event.HeaderAttempt: int64(5),
		},
		ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: amqp.Persistent, Priority: 4,
		CorrelationId: "correlation", ReplyTo: "their.queue", MessageId: "id", Timestamp: at,
		Type: "type", AppId: "app", Body: []byte("body"),
	}
	if diff := cmp.Diff(want, retryOf(&original)); diff != "" {
		t.Errorf("the copy for the retry queue differs (-want +got):\n%s", diff)
	}
	want.Headers[event.HeaderAttempt] = int16(4)
	want.Headers[event.HeaderStage], want.Headers[event.HeaderReason] = "parse", "why"
	if diff := cmp.Diff(want, deadLetterOf(&original, broker.Reason{Stage: "parse", Detail: "why"})); diff != "" {
		t.Errorf("the copy for the dead-letter queue differs (-want +got):\n%s", diff)
	}
}

func TestCopyOf_DirectReplyToAddress_IsDropped(t *testing.T) {
	t.Parallel()
	original := amqp.Delivery{ReplyTo: "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA="}
	if got := copyOf(&original).ReplyTo; got != "" {
		t.Errorf("the copy has the reply-to address %q, want none", got)
	}
}

func TestCopyOf_HeadersTooLarge_DropsHeadersOfOtherPrograms(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", maxHeaders)
	values := map[string]any{
		"a text":  large,
		"bytes":   []byte(large),
		"a list":  []any{large[1:], "x"},
		"a table": amqp.Table{"name": large},
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			original := amqp.Delivery{Headers: amqp.Table{
				"theirs": value, event.HeaderIntent: "matched", event.HeaderScheduled: int64(7), event.HeaderAttempt: int64(2),
			}}
			want := amqp.Table{event.HeaderIntent: "matched", event.HeaderScheduled: int64(7), event.HeaderAttempt: int64(3)}
			if diff := cmp.Diff(want, retryOf(&original).Headers); diff != "" {
				t.Errorf("the headers differ (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("many headers", func(t *testing.T) {
		t.Parallel()
		headers := amqp.Table{}
		for n := range maxHeaders / 100 {
			headers[strings.Repeat("n", 100)+string(rune('0'+n))] = nil
		}
		if got := foreignHeaders(headers); len(got) != 0 {
			t.Errorf("foreignHeaders kept %d headers, want 0", len(got))
		}
	})
}

func TestEncode_MessageIsTooLarge_ReturnsError(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxShort+1)
	for name, msg := range map[string]broker.Message{
		"an id":             {ID: long},
		"a type":            {Type: event.Type(long)},
		"an application id": {AppID: long},
		"a content type":    {ContentType: long},
		"a body":            {Body: bytes.Repeat([]byte("x"), maxBody+1)},
	} {
		if _, err := encode(msg); err == nil {
			t.Errorf("encode accepted %s that is too long", name)
		}
	}
	most := broker.Message{ID: long[1:], Body: bytes.Repeat([]byte("x"), maxBody)}
	if _, err := encode(most); err != nil {
		t.Errorf("encode rejected the largest message: %v", err)
	}
}

func TestEncode_ThenDecode_ReturnsTheSameMessage(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_900_000_000, 0).UTC()
	want := broker.Message{
		ID: "id", Type: event.TypeExit, AppID: event.AppID, ContentType: "text/plain", Timestamp: at,
		Intent: event.IntentUnmatched, Scheduled: at.Add(time.Nanosecond), Attempt: 2, Body: []byte("body"),
	}
	p, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if p.DeliveryMode != amqp.Persistent {
		t.Error("the message is not persistent")
	}
	got := decode(&amqp.Delivery{
		Headers: p.Headers, ContentType: p.ContentType, MessageId: p.MessageId, Timestamp: p.Timestamp,
		Type: p.Type, AppId: p.AppId, Body: p.Body,
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the message differs (-want +got):\n%s", diff)
	}
}
