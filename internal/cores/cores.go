// Package cores limits a process to one core while the process has little to do.
//
// On several cores, the Go runtime wakes an idle thread for each goroutine that becomes runnable, usually in vain. At a
// few hundred messages per second, this uses a third of the CPU time.
package cores

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"time"
)

// maxQuietShare is the CPU usage, as a fraction of a core, below which the process is limited to one core. With more
// usage, the limit saves little and makes latencies longer.
const maxQuietShare = .15

// The intervals are the times between two measurements of the CPU usage.
const (
	busyInterval  = 100 * time.Millisecond // the interval while the process is limited to one core
	quietInterval = 5 * time.Second        // the interval while the process can use all cores
)

// Adapt blocks until ctx ends, and limits the process to one core whenever it has little to do. Adapt does nothing if
// the environment variable GOMAXPROCS is set.
func Adapt(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	adapt(ctx, used, limit)
}

// adapt calls the function limit when the number of cores must change. It assumes that the process starts without a
// limit. The function used returns the CPU time of the process so far.
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
		if isQuiet := share <= maxQuietShare; isQuiet != limited {
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
