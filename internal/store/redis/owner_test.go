package redis

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/internal/store"
	"github.com/parking-operator/parking-operator/test/servers"
)

func TestStoreMark_DataOfAnotherOwner_IsNeitherUsedNorRemoved(t *testing.T) {
	t.Parallel()
	uri, name := servers.RedisURI(t), servers.Name(t)
	servers.RemoveKeys(t, name)
	ownedBy := func(owner string) *Store {
		return openWith(t, Config{Simulation: name, Partitions: 2, Owner: owner}, Dependencies{Binding: source(t, uri)})
	}
	unmarked, first, second := ownedBy(""), ownedBy("first"), ownedBy("second")
	markOf(t, unmarked) // like earlier versions of the program, this store records no owner
	if _, err := second.Dataset(t.Context()); err != nil {
		t.Errorf("read data without a mark: %v", err)
	}
	markOf(t, first)
	for doing, do := range map[string]func() error{
		"mark":    func() error { _, err := second.Mark(t.Context(), 1); return err },
		"dataset": func() error { _, err := second.Dataset(t.Context()); return err },
		"purge":   func() error { return second.Purge(t.Context()) },
	} {
		err := do()
		if !errors.Is(err, store.ErrOtherOwner) || errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "give this simulation another name") {
			t.Errorf("%s by another owner: %v, want %v", doing, err, store.ErrOtherOwner)
		}
	}
	if d := datasetOf(t, first); d.Partitions != 2 || !d.LostAt.IsZero() {
		t.Errorf("the data of the first owner are %+v", d)
	}
	noError(t, first.Purge(t.Context()))
	markOf(t, second)
	// A store without an owner, as in the command "parking purge", can purge the data of any owner.
	noError(t, unmarked.Purge(t.Context()))
	if exists, err := second.Exists(t.Context()); err != nil || exists {
		t.Errorf("keys are left (%v)", err)
	}
}

// The loss of one cluster node must not affect partitions on other nodes. These partitions must also stay protected
// from simulations of the same name.
func TestStoreMark_NodeOfPartitionZeroIsDown_OtherPartitionsStayUsable(t *testing.T) {
	t.Parallel()
	c := servers.NewRedisCluster(t, servers.RedisClusterOptions{Primaries: 2, Config: []string{"cluster-require-full-coverage no"}})
	nodeOf := func(partition int) int {
		owner, _ := c.Owner(t, c.Slot(t, keyPrefix("marked")+strconv.Itoa(partition)+"}:"+keyLedger))
		return owner
	}
	zero, other := nodeOf(0), 1
	for nodeOf(other) == zero {
		other++
	}
	ownedBy := func(owner string) *Store {
		return openWith(t, Config{Simulation: "marked", Partitions: other + 1, Owner: owner}, Dependencies{Binding: source(t, c.URI(1-zero))})
	}
	first := ownedBy("first")
	noError(t, c.Admins[zero].Do(t.Context(), "CLIENT", "PAUSE", "60000").Err())
	if _, err := first.Mark(t.Context(), other); err != nil {
		t.Errorf("mark partition %d while the node of partition 0 does not answer: %v", other, err)
	}
	if _, err := ownedBy("second").Mark(t.Context(), other); !errors.Is(err, store.ErrOtherOwner) {
		t.Errorf("mark of another owner: %v, want %v", err, store.ErrOtherOwner)
	}
}

func TestStoreReserve_ConcurrentOwners_OnlyOneSucceedsUntilPurge(t *testing.T) {
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
