package redis

import (
	"context"
	"log/slog"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// settings warns of settings of the server that let it lose data, each once.
type settings struct {
	logger *slog.Logger

	mu     sync.Mutex
	warned map[string]bool
}

// inspect looks at the settings of the server that holds the partition. It does so by INFO, since CONFIG is
// not for everybody.
func (s *Store) inspect(ctx context.Context, p *partition, into *settings) {
	node, err := s.nodeOf(ctx, p.key(keyLedger))
	if err != nil {
		return // what matters has just been read; it will be again
	}
	var persistence, memory *goredis.StringCmd
	_, err = node.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		persistence, memory = pipe.Info(ctx, "persistence"), pipe.Info(ctx, "memory")
		return nil
	})
	if err == nil {
		into.judge(persistence.Val(), memory.Val())
	}
}

// judge reads the sections persistence and memory of INFO.
func (s *settings) judge(persistence, memory string) {
	if enabled, found := infoField(persistence, "aof_enabled"); found && enabled == "0" {
		s.warn("appendonly", "no", "yes", "the store keeps no append-only file: when it ends, everything since its last snapshot is lost, and with it the ledger")
	}
	if policy, found := infoField(memory, "maxmemory_policy"); found && policy != "noeviction" {
		s.warn("maxmemory-policy", policy, "noeviction", "the store may evict keys when its memory is full: events and visits are then lost")
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
