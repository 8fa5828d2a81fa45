package cores

import (
	"context"
	"net"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parking-operator/parking-operator/internal/pingtest"
	"github.com/parking-operator/parking-operator/internal/rawconn"
)

func TestAdapt_LowCPUUsage_LimitsToOneCoreUntilTheUsageRises(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		phases []float64 // the CPU usage in each phase of 20 s, in cores
		// want lists the arguments of the callback of adapt: true sets the limit, and false removes it. If the limit is
		// set when ctx ends, the last argument is false.
		want []bool
	}{
		"idle":                       {[]float64{0}, []bool{true, false}},
		"busy":                       {[]float64{1.7}, nil},
		"idle, then busy":            {[]float64{.1, 1}, []bool{true, false}},
		"busy, then idle":            {[]float64{2, .01}, []bool{true, false}},
		"an eighth of a core":        {[]float64{.125}, []bool{true, false}},
		"a quarter of a core":        {[]float64{.25}, nil},
		"idle, then busy, then idle": {[]float64{.1, .2, .1}, []bool{true, false, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var cpu atomic.Int64
				var calls []bool
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					adapt(ctx, func() time.Duration { return time.Duration(cpu.Load()) }, func(toOne bool) { calls = append(calls, toOne) })
				}()
				const step = 10 * time.Millisecond
				for _, share := range tt.phases {
					for range 20 * time.Second / step {
						time.Sleep(step)
						cpu.Add(int64(share * float64(step)))
					}
				}
				cancel()
				<-done
				if !slices.Equal(calls, tt.want) {
					t.Errorf("the callback was called with %v, want %v", calls, tt.want)
				}
			})
		})
	}
}

func TestAdapt_ProcessBecomesBusy_RemovesTheLimitWithinTwoIntervals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var removed time.Duration
		// The simulated process is idle for a minute and busy after that.
		used := func() time.Duration { return max(0, time.Since(began)-time.Minute) }
		adapt(ctx, used, func(toOne bool) {
			if !toOne {
				removed = time.Since(began)
				cancel()
			}
		})
		if removed <= time.Minute || removed > time.Minute+2*busyInterval {
			t.Errorf("the limit was removed after %s, want at most %s after %s", removed, 2*busyInterval, time.Minute)
		}
	})
}

// The metrics switches/all-cores and cpu/all-cores are the cost with one core relative to the cost with all cores:
// less than 1 is a saving.
func BenchmarkLimit_MessageEvery2ms_OneCoreVersusAllCores(b *testing.B) {
	if runtime.GOMAXPROCS(0) == 1 {
		b.Skip("the process has one core")
	}
	client := echo(b)
	limit(true)
	one := pingtest.Measure(b, client, b.N)
	limit(false)
	all := pingtest.Measure(b, client, b.N)
	b.ReportMetric(one.Switches, "switches/op")
	b.ReportMetric(one.Switches/all.Switches, "switches/all-cores")
	b.ReportMetric(one.CPU/all.CPU, "cpu/all-cores")
}

// echo returns a connection whose peer sends back all bytes that it receives.
func echo(b *testing.B) net.Conn {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		pingtest.Echo(rawconn.New(conn))
	}()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	return rawconn.New(client)
}
