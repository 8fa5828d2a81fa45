package rabbitmq

import (
	"context"
	"fmt"
)

// Exists reports whether the server knows the simulation, of however many partitions: its exchange, or the
// queue of dead letters, which is the last that Delete removes. It changes nothing and tries once.
func (b *Broker) Exists(ctx context.Context) (found bool, err error) {
	err = b.administer(ctx, func(admin *administration) error {
		found, err = admin.exists(b.topology)
		return err
	})
	return found, err
}

func (a *administration) exists(t topology) (bool, error) {
	err := a.channel.ExchangeDeclarePassive(t.exchange, "direct", true, false, false, false, nil)
	if err == nil {
		return true, nil
	}
	if !isNotFound(err) {
		return false, fmt.Errorf("look for exchange %s: %w", t.exchange, err)
	}
	if err := a.open(); err != nil { // the server has closed the channel with its answer
		return false, err
	}
	_, err = a.channel.QueueDeclarePassive(t.dead().queue, true, false, false, false, nil)
	if err != nil && !isNotFound(err) {
		return false, fmt.Errorf("look for queue %s: %w", t.dead().queue, err)
	}
	return err == nil, nil
}
