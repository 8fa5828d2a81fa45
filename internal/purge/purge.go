// Package purge removes the queues and keys of a simulation from its servers.
package purge

import (
	"context"
	"errors"
	"fmt"

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

// Foreign says what was not deleted because it belongs to another simulation of the same name.
type Foreign struct{ Queues, Keys bool }

// String returns "queues", "keys" or "queues and keys", whichever were not deleted. It returns "" if all were deleted.
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

// RemoveQueues deletes the queues of a simulation. It keeps queues that belong to another simulation of the same name,
// and reports them in the result, without an error.
//
// Call it before RemoveKeys, because a processor that still receives messages creates keys again. Use a separate
// timeout for each of the two calls.
func RemoveQueues(ctx context.Context, simulation string, queues Queues) (Foreign, error) {
	isForeign, err := remove(ctx, queues.Delete, broker.ErrOtherOwner, "queues", simulation)
	return Foreign{Queues: isForeign}, err
}

// RemoveKeys deletes the keys of a simulation. It keeps keys that belong to another simulation of the same name, and
// reports them in the result, without an error.
func RemoveKeys(ctx context.Context, simulation string, keys Keys) (Foreign, error) {
	isForeign, err := remove(ctx, keys.Purge, store.ErrOtherOwner, "keys", simulation)
	return Foreign{Keys: isForeign}, err
}

// remove calls f, which removes queues or keys. It returns true if f fails because another simulation owns them, which
// is not an error.
func remove(ctx context.Context, f func(context.Context) error, otherOwner error, what, simulation string) (isForeign bool, err error) {
	switch err := f(ctx); {
	case errors.Is(err, otherOwner):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("remove the %s of %s: %w", what, simulation, err)
	}
	return false, nil
}
