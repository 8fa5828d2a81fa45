package rabbitmq

import (
	"context"
	"fmt"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/event"
)

// maxExamined and maxExaminedBytes limit the number and the total size of the dead letters that DeadLetterReasons
// reads.
const (
	maxExamined      = 1000
	maxExaminedBytes = 64 << 20
)

// DeadLetterReasons counts the reasons in the headers of the oldest dead letters. It takes the messages from the queue
// and then requeues them, in one attempt.
func (b *Broker) DeadLetterReasons(ctx context.Context, limit int) ([]broker.ReasonCount, error) {
	return administer(ctx, b, func(a *administration) ([]broker.ReasonCount, error) {
		reasons, err := a.deadReasons(b.topology.dead())
		return broker.CountReasons(slices.Values(reasons), limit), err
	})
}

func (a *administration) deadReasons(dead route) (reasons []broker.Reason, err error) {
	var last amqp.Delivery
	for size := 0; len(reasons) < maxExamined && size < maxExaminedBytes; size += len(last.Body) {
		letter, found, err := a.channel.Get(dead.queue, false)
		switch {
		case isNotFound(err):
			return nil, a.open() // reopen the channel, which the server closes if a queue does not exist
		case err != nil:
			return nil, fmt.Errorf("examine queue %s: %w", dead.queue, err)
		case !found:
			return reasons, a.requeueUpTo(dead, last)
		}
		last = letter
		reasons = append(reasons, reasonIn(letter.Headers))
	}
	return reasons, a.requeueUpTo(dead, last)
}

// requeueUpTo requeues the given delivery and all deliveries that precede it.
func (a *administration) requeueUpTo(dead route, last amqp.Delivery) error {
	if last.DeliveryTag == 0 {
		return nil
	}
	if err := a.channel.Nack(last.DeliveryTag, true, true); err != nil {
		return fmt.Errorf("requeue the examined messages of queue %s: %w", dead.queue, err)
	}
	return nil
}

// reasonIn returns why a processor or the broker dead-lettered a message.
func reasonIn(headers amqp.Table) broker.Reason {
	stage, _ := headers[event.HeaderStage].(string)
	detail, _ := headers[event.HeaderReason].(string)
	if stage == "" {
		return broker.Reason{Stage: broker.StageBroker, Detail: deathIn(headers)}.Bounded()
	}
	return broker.Reason{Stage: stage, Detail: detail}.Bounded()
}

// deathIn returns the reason that the broker recorded when it last dead-lettered a message.
func deathIn(headers amqp.Table) string {
	deaths, _ := headers["x-death"].([]any)
	if len(deaths) == 0 {
		return ""
	}
	latest, _ := deaths[0].(amqp.Table)
	reason, _ := latest["reason"].(string)
	return reason
}
