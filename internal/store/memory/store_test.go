package memory

import (
	"testing"

	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/internal/store/storetest"
)

func TestConformance_MemoryStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, partitions int) store.Store {
		s := newStore(Config{Partitions: partitions}, 0)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

func BenchmarkMemoryStore(b *testing.B) {
	storetest.Benchmark(b, 16, func(*testing.B) store.Store { return New(Config{Partitions: 1}) })
}
