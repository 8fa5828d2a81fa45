package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// Exists reports whether a generator or a processor of the simulation has used the store, or whether the name of the
// simulation is reserved.
func (s *Store) Exists(ctx context.Context) (bool, error) {
	// Every generator and processor that uses a partition writes at least one of these keys.
	found, err := s.sum(ctx, "look for the simulation", func(pipe goredis.Pipeliner, p *partition) *goredis.IntCmd {
		return pipe.Exists(ctx, p.key(keyLedger), p.key(keyRuns), p.key(keyStarved), p.key(keyOwner),
			p.key(keyCounter, string(store.CounterEntries)), p.key(keyCounter, string(store.CounterExits)))
	})
	return found > 0, err
}
