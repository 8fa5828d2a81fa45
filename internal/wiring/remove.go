package wiring

import (
	"context"
	"errors"
	"fmt"

	"github.com/parking-operator/parking-operator/internal/broker"
)

// Queues deletes the queues of one simulation from a broker.
type Queues interface {
	// Delete deletes the queues and the exchange of the simulation.
	Delete(ctx context.Context) error
}

// Keys deletes the data of one simulation from a store.
type Keys interface {
	// Purge deletes all keys of the simulation.
	Purge(ctx context.Context) error
}

// Remove deletes the queues and the keys of a simulation. Either argument may be nil. Remove deletes the queues first,
// because a processor that still received messages would create keys again. If the deletion of the queues fails, Remove
// still deletes the keys.
func Remove(ctx context.Context, simulation string, queues Queues, keys Keys) error {
	var errs []error
	if queues != nil {
		// If another owner created the queues, they belong to another simulation with the same name. Do not delete
		// them.
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
