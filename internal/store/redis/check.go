package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Check tries every command that a simulation uses, on temporary keys. The error is one line with the address, the
// reason and advice.
func (s *Store) Check(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil {
		return err
	}
	for _, p := range s.servers() {
		if err := s.checkServer(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// writableTTL is the time to live of the keys that CheckWritable and lookAt write.
const writableTTL = time.Minute

// CheckWritable detects servers that do not answer, or that reject writes. It writes only one key per server, or per
// partition of a cluster, because readiness probes call it often.
func (s *Store) CheckWritable(ctx context.Context) error {
	_, err := s.client.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for _, p := range s.servers() {
			pipe.Set(ctx, p.key(keyWritable), "", writableTTL)
		}
		return nil
	})
	// A missing permission for this key must not make working pods unready.
	if err == nil || isForbidden(replyIn(err)) {
		return nil
	}
	return s.failure(ctx, "write a key", err)
}

// checkServer tries every command that a simulation uses, on the server that stores the partition.
func (s *Store) checkServer(ctx context.Context, p *partition) error {
	const doing = "try every command that a simulation uses"
	node, err := s.nodeOf(ctx, p.key(keyLedger))
	if err != nil {
		return s.failure(ctx, doing, err)
	}
	trials := trialsOn(p.key("check:", rand.Text(), ":"), s.scripts.deadLetter)
	if s.barrier.synced() {
		trials = append(trials, []any{"waitaof", 1, 0, 1})
	} else if info, err := node.Info(ctx, "replication").Result(); err == nil && onlineReplicas(info) > 0 && !s.ignoreReplicas {
		trials = append(trials, []any{"WAIT", 0, 1})
	}
	commands := make([]*goredis.Cmd, len(trials))
	// Ignore the error: the loop below checks the error of each command.
	_, _ = node.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
		for i, trial := range trials {
			commands[i] = pipe.Do(ctx, trial...)
		}
		return nil
	})
	var missing []string
	for i, command := range commands {
		switch err := command.Err(); {
		case err == nil, errors.Is(err, goredis.Nil), goredis.HasErrorPrefix(err, "NOSCRIPT"):
		case isForbidden(replyIn(err)):
			missing = append(missing, right(trials[i], replyIn(err)))
		case strings.HasPrefix(replyIn(err), replyNoWAITAOF):
			info, _ := commands[0].Text() // the first command is INFO server, as trialsOn promises
			return fmt.Errorf("%s at %s: %s lacks the command WAITAOF, which redis.durability Synced needs: %s",
				doing, s.where(), versionIn(info), remedyNoWAITAOF)
		default:
			return s.failure(ctx, doing, err)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("%s at %s: the user lacks the permissions %s: grant them with ACL SETUSER",
		doing, s.where(), strings.Join(slices.Compact(missing), " "))
}

// right returns the ACL rule that the user lacks, according to the error reply of the server to a command.
func right(command []any, reply string) string {
	if strings.Contains(reply, " access ") {
		return "~parking:*"
	}
	return "+" + strings.ToLower(fmt.Sprint(command[0]))
}

// trialsOn returns a trial of each command of the store, except WAIT and WAITAOF. The first trial is INFO server. All
// keys of the trials are removed or expire.
func trialsOn(prefix, script string) [][]any {
	text, number, hash, list, set, sorted := prefix+"text", prefix+"number", prefix+"hash", prefix+"list", prefix+"set", prefix+"sorted"
	return [][]any{
		{"INFO", "server"},
		{"SET", text, "x", "PX", 60_000}, {"GET", text}, {"EXISTS", text}, {"PEXPIRE", text, 60_000}, {"DEL", text},
		{"SETBIT", text, 0, 1}, {"GETBIT", text, 0}, {"PEXPIRE", text, 60_000}, {"INCR", number}, {"PEXPIRE", number, 60_000}, {"INCRBY", number, 1},
		{"HSET", hash, "field", 1}, {"PEXPIRE", hash, 60_000}, {"HSETNX", hash, "other", 1}, {"HINCRBY", hash, "field", 1},
		{"HGET", hash, "field"}, {"HMGET", hash, "field"}, {"HGETALL", hash}, {"HKEYS", hash}, {"HVALS", hash}, {"HLEN", hash}, {"HDEL", hash, "field"},
		{"RPUSH", list, "x"}, {"LPOP", list}, {"SADD", set, "x"}, {"PEXPIRE", set, 60_000}, {"SMEMBERS", set}, {"SREM", set, "x"},
		{"ZADD", sorted, 1, "x"}, {"PEXPIRE", sorted, 60_000}, {"ZCARD", sorted}, {"ZRANGE", sorted, 0, -1},
		{"ZREMRANGEBYSCORE", sorted, 0, 0}, {"ZREMRANGEBYRANK", sorted, 0, 0},
		{"EVAL", script, 2, hash, text}, {"EVALSHA", strings.Repeat("0", 40), 0},
		{"SCAN", 0, "COUNT", 1}, {"UNLINK", text, number, hash, list, set, sorted},
	}
}
