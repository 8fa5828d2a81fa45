package redis

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/test/servers"
)

func TestReserve_OnlyOneOwnerSucceedsUntilPurge(t *testing.T) {
	t.Parallel()
	s := open(t, servers.RedisURI(t), servers.Name(t), 2)
	for range 2 {
		var winner atomic.Pointer[string]
		var asking sync.WaitGroup
		for i := range 20 {
			asking.Go(func() {
				owner := strconv.Itoa(i)
				reserved, err := s.Reserve(t.Context(), owner)
				noError(t, err)
				if reserved && !winner.CompareAndSwap(nil, &owner) {
					t.Errorf("%s reserved the name too", owner)
				}
			})
		}
		asking.Wait()
		if winner.Load() == nil {
			t.Fatal("no owner reserved the name")
		}
		if again, err := s.Reserve(t.Context(), *winner.Load()); err != nil || !again {
			t.Errorf("the owner cannot reserve the name again: %v", err)
		}
		if exists, err := s.Exists(t.Context()); err != nil || !exists {
			t.Errorf("a name that is reserved passes for unused: %v", err)
		}
		noError(t, s.Purge(t.Context()))
		if exists, err := s.Exists(t.Context()); err != nil || exists {
			t.Errorf("the name is not unused again: %v", err)
		}
	}
}
