package fair_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parking-operator/parking-operator/internal/fair"
)

// A tenant whose functions never return must not keep the functions of other tenants from running.
func TestFairPool_HangingTenant_DoesNotDelayOthers(t *testing.T) {
	t.Parallel()
	p := fair.New(fair.Limits{Total: 3, PerTenant: 2})
	hang := make(chan struct{})
	for range 100 {
		p.Go("hanging", func() { <-hang })
	}
	for n := range 50 {
		ran := make(chan struct{})
		p.Go(fmt.Sprint("healthy", n), func() { close(ran) })
		<-ran
	}
	close(hang)
	p.Wait()
}

// A free slot goes to the tenant with the fewest running functions, even if another tenant has waited longer.
func TestFairPool_SlotBecomesFree_TenantWithFewestRunningFunctionsGetsIt(t *testing.T) {
	t.Parallel()
	p := fair.New(fair.Limits{Total: 2, PerTenant: 2})
	hang, started := make(chan struct{}), make(chan string, 100)
	for range 10 {
		p.Go("slow", func() { started <- "slow"; <-hang })
	}
	<-started
	<-started
	p.Go("new", func() { started <- "new" })
	hang <- struct{}{}
	if next := <-started; next != "new" {
		t.Errorf("the next function is of tenant %q, want the one that waits for its first slot", next)
	}
	close(hang)
	p.Wait()
}

func TestFairPool_ManyFunctions_AllRunWithinTheLimits(t *testing.T) {
	t.Parallel()
	const total, perTenant, tenants, each = 5, 2, 7, 40
	p := fair.New(fair.Limits{Total: total, PerTenant: perTenant})
	var all, ran atomic.Int64
	var mu sync.Mutex
	byTenant := map[int]int{}
	for n := range tenants * each {
		tenant := n % tenants
		p.Go(fmt.Sprint(tenant), func() {
			if now := all.Add(1); now > total {
				t.Errorf("%d functions run, want at most %d", now, total)
			}
			mu.Lock()
			byTenant[tenant]++
			if byTenant[tenant] > perTenant {
				t.Errorf("%d functions of a tenant run, want at most %d", byTenant[tenant], perTenant)
			}
			mu.Unlock()
			mu.Lock()
			byTenant[tenant]--
			mu.Unlock()
			all.Add(-1)
			ran.Add(1)
		})
	}
	p.Wait()
	if ran.Load() != tenants*each {
		t.Errorf("%d functions ran, want %d", ran.Load(), tenants*each)
	}
}
