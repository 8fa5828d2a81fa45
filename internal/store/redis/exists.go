package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// Exists reports whether the store knows the simulation, as far as it has this many partitions: whether any
// generator or processor has ever worked with it, or a process has reserved it. It changes nothing.
func (s *Store) Exists(ctx context.Context) (bool, error) {
	// One of these is written with whatever else is.
	found, err := s.sum(ctx, "look for the simulation", func(pipe goredis.Pipeliner, p *partition) *goredis.IntCmd {
		return pipe.Exists(ctx, p.key(keyLedger), p.key(keyRuns), p.key(keyStarved), p.key(keyOwner),
			p.key(keyCounter, string(store.CounterEntries)), p.key(keyCounter, string(store.CounterExits)))
	})
	return found > 0, err
}
