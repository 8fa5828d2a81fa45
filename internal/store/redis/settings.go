package redis

import (
	"context"
	"log/slog"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// settings warns about server settings that risk the loss of data. It warns once per setting.
type settings struct {
	logger *slog.Logger

	mu     sync.Mutex
	warned map[string]bool
}

// inspect warns about settings of the server that stores the partition. It uses the INFO command, because many users
// are not permitted to run CONFIG.
func (s *Store) inspect(ctx context.Context, p *partition, into *settings) {
	node, err := s.nodeOf(ctx, p.key(keyLedger))
	if err != nil {
		return // ignore the error: the next restart, failover or first connection of a replica causes another check
	}
	var persistence, memory, replication *goredis.StringCmd
	_, err = node.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		persistence, memory, replication = pipe.Info(ctx, "persistence"), pipe.Info(ctx, "memory"), pipe.Info(ctx, "replication")
		return nil
	})
	if err == nil {
		into.check(persistence.Val(), memory.Val(), replication.Val())
	}
}

// check warns about settings with which the store can lose data. Its arguments are sections of the INFO reply.
func (s *settings) check(persistence, memory, replication string) {
	if enabled, found := infoField(persistence, "aof_enabled"); found && enabled == "0" {
		s.warn("appendonly", "no", "yes", "The store has no append-only file: when the server stops, it loses everything since its last snapshot, including the ledger")
	}
	if policy, found := infoField(memory, "maxmemory_policy"); found && policy != "noeviction" {
		s.warn("maxmemory-policy", policy, "noeviction", "The store may evict keys when its memory is full: events and visits are then lost")
	}
	replicas, found := infoField(replication, "connected_slaves")
	// INFO has the field min_slaves_good_slaves only if min-replicas-to-write is above 0. So the field shows that writes
	// require a connected replica.
	if _, required := infoField(replication, "min_slaves_good_slaves"); found && replicas != "0" && !required {
		s.warn("min-replicas-to-write", "0", "1", "The store accepts writes that no replica receives: if a disconnected replica is promoted, these writes are lost")
	}
}

func (s *settings) warn(setting, is, want, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warned[setting] {
		return
	}
	if s.warned == nil {
		s.warned = map[string]bool{}
	}
	s.warned[setting] = true
	s.logger.Warn(message, "setting", setting, "is", is, "set_to", want)
}
