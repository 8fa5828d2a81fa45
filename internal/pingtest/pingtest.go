// Package pingtest helps benchmarks to measure the CPU time of a process.
package pingtest

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// Cost is the average cost of one message and its reply: the usage of the whole process during the measurement, divided
// by the number of messages.
type Cost struct {
	// CPU is the CPU time in nanoseconds. Switches is the number of voluntary context switches.
	CPU, Switches float64
}

// Measure sends a message every 2 ms, waits until the peer has sent it back, and returns the mean cost per message.
func Measure(b *testing.B, client net.Conn, messages int) Cost {
	b.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	buffer, before := make([]byte, 64), usage(b)
	for range messages {
		<-ticker.C
		if _, err := client.Write(buffer); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(client, buffer); err != nil {
			b.Fatal(err)
		}
	}
	after := usage(b)
	return Cost{
		CPU:      float64(cpuOf(after)-cpuOf(before)) / float64(messages),
		Switches: float64(after.Nvcsw-before.Nvcsw) / float64(messages),
	}
}

// Echo sends back everything that arrives at a connection, until the connection ends.
func Echo(conn net.Conn) {
	// Without the wrappers, io.Copy could use splice instead of Read and Write.
	_, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
}

// CPUTime returns the CPU time that this process has used so far.
func CPUTime(b *testing.B) time.Duration {
	b.Helper()
	return cpuOf(usage(b))
}

func usage(b *testing.B) syscall.Rusage {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return r
}

func cpuOf(r syscall.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
