package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"
)

// scanCount is the number of keys that the server examines per SCAN command.
const scanCount = 1000

// Purge implements store.Store. It also removes the keys of partitions that this store does not have.
func (s *Store) Purge(ctx context.Context) error {
	purge := func(ctx context.Context, node *goredis.Client) error { return purgeNode(ctx, node, s.prefix) }
	var err error
	switch client := s.client.(type) {
	case *goredis.ClusterClient:
		err = client.ForEachMaster(ctx, purge)
	case *goredis.Client:
		err = purge(ctx, client)
	}
	if err != nil {
		return s.failure(ctx, "purge the store", err)
	}
	for _, o := range s.observers {
		o.dataset.reset()
	}
	return nil
}

// purgeNode removes all keys with the given prefix from one server.
func purgeNode(ctx context.Context, node *goredis.Client, prefix string) error {
	pattern := escapeGlob(prefix) + "*"
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, pattern, scanCount).Result()
		if err != nil {
			return err
		}
		if err := unlink(ctx, node, keys, prefix); err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		cursor = next
	}
}

// unlink removes keys with one command per key, because in a Redis cluster the keys of one command must have the
// same hash tag.
func unlink(ctx context.Context, node *goredis.Client, keys []string, prefix string) error {
	_, err := node.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, key := range keys {
			if belongs(key, prefix) {
				pipe.Unlink(ctx, key)
			}
		}
		return nil
	})
	return err
}
