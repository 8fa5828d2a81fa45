package wiring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parking-operator/parking-operator/internal/broker"
	"github.com/parking-operator/parking-operator/internal/store"
)

// Queues represents the queues of one simulation in a broker.
type Queues interface {
	// Delete deletes the queues and the exchange of the simulation.
	Delete(ctx context.Context) error
}

// Keys represents the data of one simulation in a store.
type Keys interface {
	// Purge deletes all keys of the simulation.
	Purge(ctx context.Context) error
}

// Foreign says what Remove has not deleted because it belongs to another simulation of the same name.
type Foreign struct{ Queues, Keys bool }

// String returns "queues", "keys" or "queues and keys", whichever Remove has not deleted. It returns "" if there are
// none.
func (f Foreign) String() string {
	switch {
	case f.Queues && f.Keys:
		return "queues and keys"
	case f.Queues:
		return "queues"
	case f.Keys:
		return "keys"
	}
	return ""
}

// Remove deletes the queues and the keys of a simulation. Either argument may be nil. Remove deletes the queues first,
// because a processor that still received messages would create keys again. If the deletion of the queues fails, Remove
// still deletes the keys. Each of the two has its own timeout, because the broker may not respond. Queues and keys with the
// mark of another owner belong to another simulation of the same name. Remove does not delete them; this is not an error.
func Remove(ctx context.Context, timeout time.Duration, simulation string, queues Queues, keys Keys) (Foreign, error) {
	var foreign Foreign
	var errs []error
	if queues != nil {
		err := limited(ctx, timeout, queues.Delete)
		if foreign.Queues = errors.Is(err, broker.ErrOtherOwner); err != nil && !foreign.Queues {
			errs = append(errs, fmt.Errorf("remove the queues of %s: %w", simulation, err))
		}
	}
	if keys != nil {
		err := limited(ctx, timeout, keys.Purge)
		if foreign.Keys = errors.Is(err, store.ErrOtherOwner); err != nil && !foreign.Keys {
			errs = append(errs, fmt.Errorf("remove the keys of %s: %w", simulation, err))
		}
	}
	return foreign, errors.Join(errs...)
}

// limited calls f with a timeout.
func limited(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx)
}
