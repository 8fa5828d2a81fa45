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

// inspect warns about settings of the server that stores the partition, if they risk the loss of data. It uses the INFO
// command, because many users are not permitted to run CONFIG.
func (s *Store) inspect(ctx context.Context, p *partition, into *settings) {
	node, err := s.nodeOf(ctx, p.key(keyLedger))
	if err != nil {
		return // the settings are checked again after the next restart or failover of the server
	}
	var persistence, memory *goredis.StringCmd
	_, err = node.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		persistence, memory = pipe.Info(ctx, "persistence"), pipe.Info(ctx, "memory")
		return nil
	})
	if err == nil {
		into.check(persistence.Val(), memory.Val())
	}
}

// check warns about two settings: no append-only file, and the eviction of keys. It finds them in the sections
// "persistence" and "memory" of the INFO reply.
func (s *settings) check(persistence, memory string) {
	if enabled, found := infoField(persistence, "aof_enabled"); found && enabled == "0" {
		s.warn("appendonly", "no", "yes", "The store has no append-only file: when the server stops, it loses everything since its last snapshot, including the ledger")
	}
	if policy, found := infoField(memory, "maxmemory_policy"); found && policy != "noeviction" {
		s.warn("maxmemory-policy", policy, "noeviction", "The store may evict keys when its memory is full: events and visits are then lost")
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
