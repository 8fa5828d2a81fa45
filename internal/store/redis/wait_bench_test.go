package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// BenchmarkWAITAndWAITAOF compares WAIT and WAITAOF on a primary and its replica, both with appendfsync everysec.
// WAITAOF may take a second, so use -benchtime 20x.
func BenchmarkWAITAndWAITAOF(b *testing.B) {
	p := newPair(b)
	c := client(b, p.servers[0].URI()+"?read_timeout=1m")
	const timeout = 30_000 // milliseconds
	for _, bench := range []struct {
		name    string
		command []any
		// want is the reply if every server confirms the write in time. WAIT counts only replicas. WAITAOF also counts
		// the primary.
		want string
	}{
		{"WAIT", []any{"WAIT", 1, timeout}, "1"},
		{"WAITAOF", []any{"WAITAOF", 1, 1, timeout}, "[1 1]"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				var wait *goredis.Cmd
				_, err := c.Pipelined(b.Context(), func(pipe goredis.Pipeliner) error {
					pipe.Set(b.Context(), "key", "value", time.Minute)
					wait = pipe.Do(b.Context(), bench.command...)
					return nil
				})
				if err != nil && strings.Contains(err.Error(), "unknown command") {
					b.Skipf("the server does not know the command: %v; set PARKING_REDIS_ROOT to a system with Redis 7.2 or later", err)
				}
				noError(b, err)
				if got := fmt.Sprint(wait.Val()); got != bench.want {
					b.Fatalf("%s returns %s, want %s", bench.name, got, bench.want)
				}
			}
		})
	}
}
