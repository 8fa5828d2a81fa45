package redis

import (
	"fmt"
	"testing"
	"time"

	"github.com/parking-operator/parking-operator/internal/store/storetest"
	"github.com/parking-operator/parking-operator/internal/timeline"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestCompactTimeline_RemovesDataOfProcessesThatEndedLongAgo(t *testing.T) {
	t.Parallel()
	simulation := servers.Name(t)
	servers.RemoveKeys(t, simulation)
	s, start := open(t, servers.RedisURI(t), simulation, 1), time.Unix(1_800_000_000, 0)
	// On each simulated day, one process starts and stores a row.
	for day := range 30 {
		at := start.Add(time.Duration(day) * 24 * time.Hour)
		if err := s.AppendTimeline(t.Context(), fmt.Sprintf("processor-%d", day), []timeline.Row{{Second: at.Unix(), Entry: timeline.Events{Published: 1}}}); err != nil {
			t.Fatal(err)
		}
		if err := s.CompactTimeline(t.Context(), at.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	n, err := s.client.HLen(t.Context(), s.partitions[0].key(keyTimelineMerged)).Result()
	if err != nil || n == 0 || n > 8 {
		t.Errorf("%d processes are remembered, want those of the last 7 days: %v", n, err)
	}
}

func TestTimelineReplace_RowsWereMergedMeanwhile_ChangesNothing(t *testing.T) {
	t.Parallel()
	simulation := servers.Name(t)
	servers.RemoveKeys(t, simulation)
	storetest.RunTimelineStorage(t, open(t, servers.RedisURI(t), simulation, 1).timeline())
}
