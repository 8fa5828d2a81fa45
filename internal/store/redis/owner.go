package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parking-operator/parking-operator/internal/store"
)

// Reserve reserves the name of the simulation for one owner until Purge is called. It returns false if another owner
// has reserved the name.
func (s *Store) Reserve(ctx context.Context, owner string) (bool, error) {
	// If the reply to an earlier attempt was lost, the key already contains this owner. Reserve must then return true.
	before, err := s.client.SetArgs(ctx, s.ownerKey(), owner, goredis.SetArgs{Mode: "NX", Get: true}).Result()
	switch {
	case errors.Is(err, goredis.Nil):
		return true, nil
	case err != nil:
		return false, s.failure(ctx, "reserve the simulation's name", err)
	}
	return before == owner, nil
}

// ownerKey returns the key that Reserve sets to reserve the simulation's name. The same key records the owner of the
// data in partition 0.
func (s *Store) ownerKey() string { return s.partitions[0].key(keyOwner) }

// verifyOwner returns store.ErrOtherOwner if one of the servers has data of another owner. It never records an owner.
func (s *Store) verifyOwner(ctx context.Context) error {
	if s.owner == "" {
		return nil
	}
	var marks []*goredis.StringCmd
	_, err := s.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, p := range s.servers() {
			marks = append(marks, pipe.Get(ctx, p.key(keyOwner)))
		}
		return nil
	})
	if err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	for _, mark := range marks {
		owner, err := mark.Result()
		switch {
		case errors.Is(err, goredis.Nil):
		case err != nil:
			return err
		case owner != s.owner:
			return errOtherOwner
		}
	}
	return nil
}

var errOtherOwner = fmt.Errorf("%w: give this simulation another name, or end the other simulation and remove it with 'parking purge'", store.ErrOtherOwner)
