package redis

import (
	"context"
	"errors"

	goredis "github.com/redis/go-redis/v9"
)

// Reserve takes the simulation's name for the owner, until Purge, and reports whether it is the owner's: of all
// that ask for it, also at the same moment, one gets it.
func (s *Store) Reserve(ctx context.Context, owner string) (bool, error) {
	// The answer of a first attempt may have been lost, so that a second one finds the owner there already.
	before, err := s.client.SetArgs(ctx, s.partitions[0].key(keyOwner), owner, goredis.SetArgs{Mode: "NX", Get: true}).Result()
	switch {
	case errors.Is(err, goredis.Nil):
		return true, nil
	case err != nil:
		return false, s.failure(ctx, "reserve the simulation's name", err)
	}
	return before == owner, nil
}
