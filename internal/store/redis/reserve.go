package redis

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// Reserve reserves the name of the simulation for an owner until Purge is called. It returns false if another owner
// has reserved the name. If several owners try at the same time, exactly one succeeds.
func (s *Store) Reserve(ctx context.Context, owner string) (bool, error) {
	// The reply to a first attempt may get lost. The second attempt must then succeed because it finds its own
	// reservation.
	before, err := s.client.SetArgs(ctx, s.partitions[0].key(keyOwner), owner, goredis.SetArgs{Mode: "NX", Get: true}).Result()
	switch {
	case errors.Is(err, goredis.Nil):
		return true, nil
	case err != nil:
		return false, s.failure(ctx, "reserve the simulation's name", err)
	}
	return before == owner, nil
}
