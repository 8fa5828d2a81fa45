package rabbitmq

import (
	"fmt"
	"math"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

const (
	// maxBody is the largest message that RabbitMQ 4 accepts by default. Older versions accept larger ones.
	maxBody = 16 << 20
	// maxShort is the maximum length, in bytes, of a property of type short string.
	maxShort = 255
	// maxHeaders is the maximum size of the headers in a copy. The server closes the connection if the properties
	// exceed one frame, 128 KiB by default.
	maxHeaders = 64 << 10
)

// encode converts a message to an AMQP publishing. It returns an error if the message exceeds a limit of AMQP, or the
// default size limit of RabbitMQ.
func encode(msg broker.Message) (amqp.Publishing, error) {
	properties := []struct{ name, value string }{
		{"id", msg.ID}, {"type", string(msg.Type)}, {"application id", msg.AppID}, {"content type", msg.ContentType},
	}
	for _, p := range properties {
		if len(p.value) > maxShort {
			return amqp.Publishing{}, fmt.Errorf("the %s has more than %d bytes", p.name, maxShort)
		}
	}
	if len(msg.Body) > maxBody {
		return amqp.Publishing{}, fmt.Errorf("the body has more than %d bytes", maxBody)
	}
	contentType := msg.ContentType
	if contentType == "" {
		contentType = event.ContentType
	}
	return amqp.Publishing{
		Headers:      headersOf(msg),
		ContentType:  contentType,
		DeliveryMode: amqp.Persistent,
		MessageId:    msg.ID,
		Timestamp:    msg.Timestamp,
		Type:         string(msg.Type),
		AppId:        msg.AppID,
		Body:         msg.Body,
	}, nil
}

func headersOf(msg broker.Message) amqp.Table {
	headers := make(amqp.Table, 2)
	if msg.Intent != event.IntentNone {
		headers[event.HeaderIntent] = string(msg.Intent)
	}
	if !msg.Scheduled.IsZero() {
		headers[event.HeaderScheduled] = msg.Scheduled.UnixNano()
	}
	if msg.Attempt > 0 {
		headers[event.HeaderAttempt] = int64(msg.Attempt)
	}
	return headers
}

// decode converts an AMQP delivery to a message. It ignores headers whose type or value is invalid.
func decode(d *amqp.Delivery) broker.Message {
	return broker.Message{
		ID:          d.MessageId,
		Type:        event.Type(d.Type),
		AppID:       d.AppId,
		ContentType: d.ContentType,
		Timestamp:   inUTC(d.Timestamp),
		Intent:      intentIn(d.Headers),
		Scheduled:   scheduledIn(d.Headers),
		Attempt:     attemptIn(d.Headers),
		Body:        d.Body,
	}
}

func inUTC(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

func intentIn(headers amqp.Table) event.Intent {
	text, _ := headers[event.HeaderIntent].(string)
	switch intent := event.Intent(text); intent {
	case event.IntentMatched, event.IntentUnmatched:
		return intent
	default:
		return event.IntentNone
	}
}

func scheduledIn(headers amqp.Table) time.Time {
	nanos, _ := headers[event.HeaderScheduled].(int64)
	if nanos <= 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

// attemptIn returns the value of the attempt header: 0 without a valid header, and at most MaxInt32-1, so that a
// caller can add 1. It accepts integers of any width.
func attemptIn(headers amqp.Table) int {
	var n int64
	switch v := headers[event.HeaderAttempt].(type) {
	case int8:
		n = int64(v)
	case uint8:
		n = int64(v)
	case int16:
		n = int64(v)
	case uint16:
		n = int64(v)
	case int32:
		n = int64(v)
	case uint32:
		n = int64(v)
	case int64:
		n = v
	}
	return int(min(max(n, 0), math.MaxInt32-1))
}

// retryOf returns the copy of a delivery for the retry queue.
func retryOf(d *amqp.Delivery) amqp.Publishing {
	p := copyOf(d)
	p.Headers[event.HeaderAttempt] = int64(attemptIn(d.Headers)) + 1
	return p
}

// deadLetterOf returns the copy of a delivery for the dead-letter queue.
func deadLetterOf(d *amqp.Delivery, reason broker.Reason) amqp.Publishing {
	p := copyOf(d)
	reason = reason.Bounded()
	p.Headers[event.HeaderStage] = reason.Stage
	p.Headers[event.HeaderReason] = reason.Detail
	return p
}

// copyOf copies a delivery, except for the properties and headers that would change how the server treats the copy.
func copyOf(d *amqp.Delivery) amqp.Publishing {
	// Omit the expiration, because the copy would expire too early. Omit the user ID, because the server rejects a
	// message with the user ID of another user.
	p := amqp.Publishing{
		Headers:         foreignHeaders(d.Headers),
		ContentType:     d.ContentType,
		ContentEncoding: d.ContentEncoding,
		DeliveryMode:    amqp.Persistent,
		Priority:        d.Priority,
		CorrelationId:   d.CorrelationId,
		MessageId:       d.MessageId,
		Timestamp:       d.Timestamp,
		Type:            d.Type,
		AppId:           d.AppId,
		Body:            d.Body,
	}
	// A direct reply-to is valid only on the channel that waits for the reply.
	if !strings.HasPrefix(d.ReplyTo, "amq.rabbitmq.reply-to") {
		p.ReplyTo = d.ReplyTo
	}
	return p
}

// foreignHeaders returns the headers that a copy keeps. If these headers exceed maxHeaders bytes, the copy keeps only
// the intent, the scheduled time and the attempt.
func foreignHeaders(headers amqp.Table) amqp.Table {
	kept := make(amqp.Table, len(headers)+2)
	size := 0
	for name, value := range headers {
		if !isServerHeader(name) {
			kept[name] = value
			size += len(name) + sizeOf(value)
		}
	}
	if size <= maxHeaders {
		return kept
	}
	return headersOf(broker.Message{
		Intent: intentIn(headers), Scheduled: scheduledIn(headers), Attempt: attemptIn(headers),
	})
}

func isServerHeader(name string) bool {
	switch name {
	// A copy with the header CC or BCC would also reach other queues. The server writes the remaining headers, to
	// record earlier deliveries of the message.
	case "CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count":
		return true
	default:
		return strings.HasPrefix(name, "x-first-death-") || strings.HasPrefix(name, "x-last-death-")
	}
}

// sizeOf returns an upper bound for the encoded size of a header's value. The size does not include the type
// and the name.
func sizeOf(value any) int {
	const fixed = 16 // the maximum size in bytes of a number, a boolean, a time, or the length prefix of another value
	switch v := value.(type) {
	case string:
		return fixed + len(v)
	case []byte:
		return fixed + len(v)
	case []any:
		size := fixed
		for _, element := range v {
			size += sizeOf(element)
		}
		return size
	case amqp.Table:
		size := fixed
		for name, element := range v {
			size += len(name) + sizeOf(element)
		}
		return size
	default:
		return fixed
	}
}
