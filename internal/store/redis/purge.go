package redis

import (
	"context"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// scanCount is the number of keys that the server examines per SCAN command.
const scanCount = 1000

// Purge implements store.Store. It removes the data of all partitions, even if the data was written with a larger
// number of partitions. If the data has another owner, Purge removes nothing.
func (s *Store) Purge(ctx context.Context) error {
	const doing = "purge the store"
	if err := s.verifyOwner(ctx); err != nil {
		return s.failure(ctx, doing, err)
	}
	purge := func(ctx context.Context, node *goredis.Client) error { return s.purgeNode(ctx, node) }
	var err error
	switch client := s.client.(type) {
	case *goredis.ClusterClient:
		err = client.ForEachMaster(ctx, purge)
	case *goredis.Client:
		err = purge(ctx, client)
	}
	if err != nil {
		return s.failure(ctx, doing, err)
	}
	for _, o := range s.observers {
		o.dataset.reset()
	}
	return nil
}

// purgeNode removes all keys of the simulation from one server.
func (s *Store) purgeNode(ctx context.Context, node *goredis.Client) error {
	pattern := escapeGlob(s.prefix) + "*"
	var marks []string
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, pattern, scanCount).Result()
		if err != nil {
			return err
		}
		var others []string
		for _, key := range keys {
			switch {
			case !belongs(key, s.prefix):
			case strings.HasSuffix(key, "}:"+keyOwner):
				marks = append(marks, key)
			default:
				others = append(others, key)
			}
		}
		if err := unlink(ctx, node, others); err != nil {
			return err
		}
		if next == 0 {
			// All other keys are removed before the keys that record the owner. Otherwise, after an interrupted purge,
			// another owner could take over the remaining data.
			return unlink(ctx, node, marks)
		}
		cursor = next
	}
}

// unlink removes keys with one command per key, because in a Redis cluster all keys of one command must be in the same
// hash slot.
func unlink(ctx context.Context, node *goredis.Client, keys []string) error {
	_, err := node.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, key := range keys {
			pipe.Unlink(ctx, key)
		}
		return nil
	})
	return err
}
