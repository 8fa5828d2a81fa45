package wiring

import (
	"context"
	"errors"
	"fmt"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Queues deletes the queues of one simulation.
type Queues interface {
	// Delete deletes the queues and the exchange.
	Delete(ctx context.Context) error
}

// Keys deletes the data of one simulation in a store.
type Keys interface {
	// Purge deletes all keys.
	Purge(ctx context.Context) error
}

// Remove deletes the queues and the keys of a simulation. Either may be nil. It deletes the queues first, because
// processing a delivery would create keys again. It deletes the keys even if it cannot delete the queues.
func Remove(ctx context.Context, simulation string, queues Queues, keys Keys) error {
	var errs []error
	if queues != nil {
		// Queues of another owner belong to another simulation.
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
