package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// Exists reports whether the store has data of the simulation in the partitions of this store. This is the case if
// a generator or processor has used the store, or if the name of the simulation is reserved. Exists changes
// nothing.
func (s *Store) Exists(ctx context.Context) (bool, error) {
	// Every generator and processor that uses a partition writes at least one of these keys.
	found, err := s.sum(ctx, "look for the simulation", func(pipe goredis.Pipeliner, p *partition) *goredis.IntCmd {
		return pipe.Exists(ctx, p.key(keyLedger), p.key(keyRuns), p.key(keyStarved), p.key(keyOwner),
			p.key(keyCounter, string(store.CounterEntries)), p.key(keyCounter, string(store.CounterExits)))
	})
	return found > 0, err
}
