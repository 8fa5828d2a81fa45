package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/parking-operator/parking-operator/api/v1alpha1"
)

const (
	// creators is the number of goroutines that create simulations.
	creators = 4
	// patience is the timeout of all measurements together.
	patience = 30 * time.Minute
)

type bench struct {
	options

	directory, binary string
	server            *server
	log               *auditLog

	children int       // number of child objects of each simulation
	probed   []request // the requests with which the operator created the children of the simulation named probe
	created  sync.Map
	seen     seen
}

// seen contains the counts of the audit log entries that were read so far.
type seen struct {
	writes    int
	forbidden int
	byKind    map[string]int
	children  map[string]int           // number of created children, by simulation
	took      map[string]time.Duration // the time from the creation of a simulation to the creation of its last child
	lastChild time.Time
	lastWrite time.Time
}

func newSeen() seen {
	return seen{byKind: map[string]int{}, children: map[string]int{}, took: map[string]time.Duration{}}
}

func (b *bench) measure(ctx context.Context) (r *report, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if b.log, err = openAuditLog(b.server.audit); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.log.Close()) }()
	o, err := startOperator(ctx, b.binary, b.directory, b.server.kubeconfig, b.options.profile)
	if err != nil {
		return nil, err
	}
	r = &report{Simulations: b.simulations}
	if err := errors.Join(b.measureRun(ctx, o, r), o.stop()); err != nil {
		return nil, err
	}
	if err := b.measureRestart(ctx, r); err != nil {
		return nil, err
	}
	return r, b.measureServer(ctx, r)
}

func (b *bench) measureRun(ctx context.Context, o *operator, r *report) error {
	for _, step := range []func(context.Context, *operator, *report) error{b.countChildren, b.measureCreation, b.measureIdle} {
		if err := step(ctx, o, r); err != nil {
			return err
		}
	}
	return nil
}

// probe is the name of the simulation whose children are counted and copied.
const probe = "probe"

// countChildren creates one simulation and counts the child objects that the operator creates for it.
func (b *bench) countChildren(ctx context.Context, o *operator, r *report) error {
	progress("create one simulation, to count its children")
	if err := b.server.admin.Create(ctx, simulation(probe)); err != nil {
		return fmt.Errorf("create simulation %s: %w", probe, err)
	}
	b.seen = newSeen()
	for len(b.seen.children) == 0 { // wait until the operator is the leader and creates a child
		if err := b.readLog(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the operator creates a child object: %w; run again with -keep and see %s", ctx.Err(), o.log)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := b.awaitIdle(ctx, o); err != nil {
		return err
	}
	b.children = b.seen.children[probe]
	r.ChildrenEach = b.children
	b.seen = newSeen()
	return nil
}

func simulation(name string) *v1alpha1.ParkingSimulation {
	return &v1alpha1.ParkingSimulation{ObjectMeta: metav1.ObjectMeta{Namespace: lot, Name: name}}
}

// measureCreation creates all simulations as fast as the API server permits. It waits until every simulation has all of
// its child objects and the operator is idle.
func (b *bench) measureCreation(ctx context.Context, o *operator, r *report) error {
	progress("create %d simulations and wait for their children", b.simulations)
	before, err := childrenCPU()
	if err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- b.profileCPU(ctx, o) }()
	start := time.Now()
	creating := make(chan error, 1)
	go func() { creating <- b.createAll(ctx) }()
	report := time.NewTicker(10 * time.Second)
	defer report.Stop()
	for len(b.seen.took) < b.simulations {
		if err := b.readLog(); err != nil {
			return err
		}
		select {
		case err := <-creating:
			if err != nil {
				return err
			}
			creating = nil // the only result has arrived, so disable this case
		case <-report.C:
			progress("  %d of %d simulations have their children", len(b.seen.took), b.simulations)
		case <-ctx.Done():
			return fmt.Errorf("wait for the child objects of %d simulations: only %d have all of them: %w", b.simulations, len(b.seen.took), ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	took := b.seen.lastChild.Sub(start)
	after, err := childrenCPU()
	if err != nil {
		return err
	}
	r.Create.Seconds = took.Seconds()
	r.Create.SimulationsPerSecond = float64(b.simulations) / took.Seconds()
	r.Create.ChildrenPerSecond = r.Create.SimulationsPerSecond * float64(b.children)
	r.Create.CPUSeconds = map[string]float64{}
	for name, seconds := range after {
		r.Create.CPUSeconds[name] = seconds - before[name]
	}
	progress("wait until the operator is idle")
	times := slices.Sorted(maps.Values(b.seen.took))
	r.Create.P50Seconds = times[len(times)/2].Seconds()
	r.Create.P99Seconds = times[len(times)*99/100].Seconds()
	if err := errors.Join(<-profiled, b.awaitIdle(ctx, o)); err != nil {
		return err
	}
	r.Create.WritesPerSimulation = float64(b.seen.writes) / float64(b.simulations)
	r.Create.Writes = maps.Clone(b.seen.byKind)
	if b.options.profile {
		if err := o.profile(ctx, b.directory, "heap.pprof", "heap"); err != nil {
			return err
		}
	}
	return b.recordUsage(o, r)
}

// profileCPU records a CPU profile of the next 10 s if the flag -profile is set.
func (b *bench) profileCPU(ctx context.Context, o *operator) error {
	if !b.options.profile {
		return nil
	}
	return o.profile(ctx, b.directory, "cpu.pprof", "profile?seconds=10")
}

func (b *bench) createAll(ctx context.Context) error {
	names := make(chan string)
	errs := make(chan error, creators)
	var work sync.WaitGroup
	for range creators {
		work.Go(func() {
			for name := range names {
				b.created.Store(name, time.Now())
				if err := b.server.admin.Create(ctx, simulation(name)); err != nil {
					errs <- fmt.Errorf("create simulation %s: %w", name, err)
					return
				}
			}
		})
	}
	for i := range b.simulations {
		select {
		case names <- fmt.Sprintf("s%05d", i):
		case err := <-errs:
			return err
		}
	}
	close(names)
	work.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// readLog updates the counts with the requests that were logged since the last call.
func (b *bench) readLog() error {
	requests, err := b.log.next()
	if err != nil {
		return err
	}
	for i := range requests {
		b.count(&requests[i])
	}
	return nil
}

func (b *bench) count(r *request) {
	if r.isForbidden() {
		b.seen.forbidden++
	}
	if !r.isWrite() {
		return
	}
	b.seen.writes++
	b.seen.byKind[r.kind()]++
	b.seen.lastWrite = time.Now()
	simulation, ok := r.createdChild()
	if !ok {
		return
	}
	if simulation == probe {
		b.probed = append(b.probed, *r)
	}
	b.seen.children[simulation]++
	if b.seen.children[simulation] != b.children {
		return
	}
	b.seen.lastChild = r.Done
	if created, ok := b.created.Load(simulation); ok {
		b.seen.took[simulation] = r.Done.Sub(created.(time.Time)) //nolint:forcetypeassert // stored above
	}
}

// awaitIdle waits until the operator has neither written nor reconciled anything for the duration of the flag -quiet.
func (b *bench) awaitIdle(ctx context.Context, o *operator) error {
	since := time.Now()
	for time.Since(since) < b.quiet {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until the operator is idle: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
		if err := b.readLog(); err != nil {
			return err
		}
		w, err := o.work(ctx)
		if err != nil {
			return err
		}
		if w.waiting > 0 {
			since = time.Now()
		}
		if b.seen.lastWrite.After(since) {
			since = b.seen.lastWrite
		}
	}
	return nil
}

func (b *bench) recordUsage(o *operator, r *report) error {
	used, err := o.usage()
	if err != nil {
		return err
	}
	r.PeakRSSMiB = float64(used.peakRSS) / (1 << 20)
	r.OperatorCPUSeconds = used.cpuSeconds
	r.Forbidden = b.seen.forbidden
	return nil
}

func (b *bench) measureIdle(ctx context.Context, o *operator, r *report) error {
	progress("measure the idle operator for %s", b.idle)
	before, err := o.work(ctx)
	if err != nil {
		return err
	}
	writes := b.seen.writes
	used, err := o.usage()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.idle):
	}
	after, err := o.work(ctx)
	if err != nil {
		return err
	}
	if err := b.readLog(); err != nil {
		return err
	}
	later, err := o.usage()
	if err != nil {
		return err
	}
	r.Idle.Seconds = b.idle.Seconds()
	r.Idle.Writes = b.seen.writes - writes
	r.Idle.ReconcilesPerSimulationMinute = (after.reconciles - before.reconciles) / float64(b.simulations) / b.idle.Minutes()
	r.Idle.CPUSeconds = later.cpuSeconds - used.cpuSeconds
	r.ReconcileErrors = after.errors
	return nil
}

// measureRestart starts the operator again and waits until it has reconciled every simulation.
func (b *bench) measureRestart(ctx context.Context, r *report) (err error) {
	progress("restart the operator")
	writes := b.seen.writes
	start := time.Now()
	o, err := startOperator(ctx, b.binary, b.directory, b.server.kubeconfig, b.options.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.stop()) }()
	for {
		w, err := o.work(ctx)
		if err != nil {
			return err
		}
		if w.reconciles >= float64(b.simulations) && w.waiting == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the restarted operator: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
	r.Restart.Seconds = time.Since(start).Seconds()
	used, err := o.usage()
	if err != nil {
		return err
	}
	r.Restart.CPUSeconds = used.cpuSeconds
	if err := b.awaitIdle(ctx, o); err != nil {
		return err
	}
	r.Restart.Writes = b.seen.writes - writes
	if b.options.profile {
		if err := o.profile(ctx, b.directory, "restart-allocs.pprof", "allocs"); err != nil {
			return err
		}
	}
	if used, err = o.usage(); err != nil {
		return err
	}
	r.Restart.PeakRSSMiB = float64(used.peakRSS) / (1 << 20)
	return nil
}
