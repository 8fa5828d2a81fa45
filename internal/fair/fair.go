// Package fair runs functions for many tenants, so that slow functions of one tenant do not delay those of others.
package fair

import "sync"

// Limits are the maximum numbers of functions that a Pool runs at the same time.
type Limits struct {
	// Total limits the running functions of all tenants together. PerTenant limits the running functions of each
	// tenant.
	Total, PerTenant int
}

// Pool runs functions in goroutines. It prefers the tenants with the fewest running functions, so that a tenant with
// many functions does not delay others. Pool is safe for concurrent use.
type Pool struct {
	limits Limits
	active sync.WaitGroup

	mu      sync.Mutex
	running map[string]int
	total   int
	// waiting contains the functions that have not started, by tenant.
	waiting map[string][]func()
	// order contains the tenants with waiting functions. A tenant moves to the end when one of its functions starts.
	order []string
}

// New returns a Pool. Both limits must be positive.
func New(l Limits) *Pool {
	return &Pool{limits: l, running: map[string]int{}, waiting: map[string][]func(){}}
}

// Go runs a function for a tenant as soon as the limits allow it. The functions of one tenant start in the order of the
// calls. Go does not block.
func (p *Pool) Go(tenant string, run func()) {
	p.active.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting[tenant]) == 0 {
		p.order = append(p.order, tenant)
	}
	p.waiting[tenant] = append(p.waiting[tenant], run)
	p.startNext()
}

// Wait waits until all functions have returned, including functions that have not started yet. The caller must not call
// Go while Wait runs.
func (p *Pool) Wait() { p.active.Wait() }

// startNext starts waiting functions while the limits allow it. The caller holds p.mu.
func (p *Pool) startNext() {
	for p.total < p.limits.Total {
		next := -1
		for i, tenant := range p.order {
			if p.running[tenant] < p.limits.PerTenant && (next < 0 || p.running[tenant] < p.running[p.order[next]]) {
				next = i
			}
		}
		if next < 0 {
			return
		}
		p.start(next)
	}
}

// start starts the first waiting function of the tenant p.order[index].
func (p *Pool) start(index int) {
	tenant := p.order[index]
	p.order = append(p.order[:index], p.order[index+1:]...)
	run := p.waiting[tenant][0]
	if rest := p.waiting[tenant][1:]; len(rest) > 0 {
		p.waiting[tenant] = rest
		p.order = append(p.order, tenant)
	} else {
		delete(p.waiting, tenant)
	}
	p.running[tenant]++
	p.total++
	go func() {
		defer p.active.Done()
		defer p.release(tenant)
		run()
	}()
}

func (p *Pool) release(tenant string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total--
	if p.running[tenant]--; p.running[tenant] == 0 {
		delete(p.running, tenant)
	}
	p.startNext()
}
