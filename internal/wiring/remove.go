package wiring

import (
	"context"
	"errors"
	"fmt"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Queues are what a simulation has on a broker.
type Queues interface {
	// Delete removes them, and the exchange.
	Delete(ctx context.Context) error
}

// Keys are what a simulation has in a store.
type Keys interface {
	// Purge removes all of them.
	Purge(ctx context.Context) error
}

// Remove removes a simulation from its servers; nil stands for one on which nothing is to be removed. Queues
// go before keys, so that nothing that is delivered meanwhile makes keys anew, and keys go also when queues
// cannot.
func Remove(ctx context.Context, simulation string, queues Queues, keys Keys) error {
	var errs []error
	if queues != nil {
		// Queues of another owner are not the simulation's.
		if err := queues.Delete(ctx); err != nil && !errors.Is(err, broker.ErrOtherOwner) {
			errs = append(errs, fmt.Errorf("remove the queues of %s: %w", simulation, err))
		}
	}
	if keys != nil {
		if err := keys.Purge(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove the keys of %s: %w", simulation, err))
		}
	}
	return errors.Join(errs...)
}
