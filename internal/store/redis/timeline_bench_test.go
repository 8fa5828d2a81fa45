package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/event"
	"github.com/parking-operator/parking-operator/internal/histogram"
	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/test/servers"
)

// BenchmarkAppendTimeline compares Redis' time in scripts for a row and for an entry, in redis-µs/op. The benchmark
// excludes the wait for durability, because many goroutines share one wait.
func BenchmarkAppendTimeline(b *testing.B) {
	server := servers.NewRedis(b, servers.RedisOptions{})
	row := busyRow()
	text, err := json.Marshal(row)
	noError(b, err)
	for _, bench := range []struct {
		name string
		call func(ctx context.Context, s *Store, n int64) error
	}{
		{"entry", func(ctx context.Context, s *Store, n int64) error {
			id := event.ID{Run: "0123456789abc", Seq: n}
			_, err := s.RecordEntry(ctx, store.EntryStep{
				Origin: store.Origin{ID: id.String(), Run: id.Run, Seq: n}, Plate: "P" + strconv.FormatInt(n, 10), At: time.Now(), MaxStay: time.Hour,
			})
			return err
		}},
		{fmt.Sprintf("row of %d bytes", len(text)), func(ctx context.Context, s *Store, n int64) error {
			next := row
			next.Second += n
			return timeline.NewLog(s.timeline()).Append(ctx, "processor", []timeline.Row{next})
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := open(b, server.URI(), bench.name[:3], 1)
			admin := client(b, server.URI())
			noError(b, bench.call(b.Context(), s, 1)) // the first call loads the script into the server
			noError(b, admin.ConfigResetStat(b.Context()).Err())
			n := int64(1)
			for b.Loop() {
				n++
				noError(b, bench.call(b.Context(), s, n))
			}
			info, err := admin.Info(b.Context(), "commandstats").Result()
			noError(b, err)
			var spent float64
			for _, match := range regexp.MustCompile(`cmdstat_eval\w*:calls=\d+,usec=(\d+)`).FindAllStringSubmatch(info, -1) {
				usec, err := strconv.ParseFloat(match[1], 64)
				noError(b, err)
				spent += usec
			}
			b.ReportMetric(spent/float64(n-1), "redis-µs/op")
		})
	}
}

// busyRow returns a row with latencies between 100 µs and 10 ms.
func busyRow() timeline.Row {
	const events = 500
	var h histogram.Histogram
	for i := range events {
		h.Observe(time.Duration(float64(100*time.Microsecond) * math.Pow(100, float64(i)/events)))
	}
	e := timeline.Events{
		Effects: events, Outcomes: map[string]int64{"recorded": events}, Processing: h.Snapshot(), EndToEnd: h.Snapshot(),
	}
	return timeline.Row{Second: time.Now().Unix(), Entry: e, Exit: e}
}
