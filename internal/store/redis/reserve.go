package redis

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// Reserve reserves the simulation's name for an owner until Purge, and reports whether it succeeded. If several
// owners try, even at the same moment, one of them succeeds.
func (s *Store) Reserve(ctx context.Context, owner string) (bool, error) {
	// The reply to a first attempt may be lost. Then the second attempt finds its own reservation.
	before, err := s.client.SetArgs(ctx, s.partitions[0].key(keyOwner), owner, goredis.SetArgs{Mode: "NX", Get: true}).Result()
	switch {
	case errors.Is(err, goredis.Nil):
		return true, nil
	case err != nil:
		return false, s.failure(ctx, "reserve the simulation's name", err)
	}
	return before == owner, nil
}
