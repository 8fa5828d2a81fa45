// Package cores limits a process to one core while the process has little to do.
//
// Each time a goroutine becomes runnable while cores are free, the Go runtime wakes a thread on another core. This
// thread looks for more work and usually finds none. At a few hundred messages per second, this takes a third of the
// CPU time of a process. With one core, the runtime wakes no such threads.
package cores

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"time"
)

// The constant "little" is the CPU usage, as a fraction of a core, up to which a process is limited to one core. Above
// it, the limit would save hardly any CPU time and make latencies longer, especially if other processes compete for the
// core.
const little = .15

// adapt compares the CPU usage with the threshold little: once per busyInterval while the process is limited to one
// core, and once per quietInterval otherwise.
//
// The process does not switch back and forth between one core and all cores. The same work takes more CPU time on all
// cores, so work that exceeds the threshold on one core also exceeds it on all cores.
const (
	busyInterval  = 100 * time.Millisecond
	quietInterval = 5 * time.Second
)

// Adapt blocks until ctx ends. During this time, Adapt limits the process to one core whenever the process has little
// to do. When ctx ends, Adapt removes the limit. If the environment variable GOMAXPROCS is set, Adapt does nothing.
func Adapt(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	adapt(ctx, used, limit)
}

// adapt decides whether the process can use all cores or only one core. The process starts with all cores. adapt calls
// limit whenever the decision changes. It calls used to get the CPU time of the process.
func adapt(ctx context.Context, used func() time.Duration, limit func(toOne bool)) {
	limited, interval := false, quietInterval
	set := func(toOne bool) {
		if limited = toOne; toOne {
			interval = busyInterval
		} else {
			interval = quietInterval
		}
		limit(toOne)
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for began, before := time.Now(), used(); ; {
		select {
		case <-ctx.Done():
			if limited {
				set(false)
			}
			return
		case <-timer.C:
		}
		now, total := time.Now(), used()
		share := float64(total-before) / float64(now.Sub(began))
		if isQuiet := share <= little; isQuiet != limited {
			set(isQuiet)
		}
		began, before = now, total
		timer.Reset(interval)
	}
}

// limit limits the process to one core, or removes the limit.
func limit(toOne bool) {
	if toOne {
		runtime.GOMAXPROCS(1)
	} else {
		runtime.SetDefaultGOMAXPROCS()
	}
}

// used returns the CPU time that the process has used.
func used() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // Getrusage fails only for invalid arguments
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
