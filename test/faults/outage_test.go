package faults

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// outage is how long the summary API is down in the test. The environment variable PARKING_FAULTS_OUTAGE can set
// another duration, such as "5m".
const outage = 15 * time.Second

// maxProcessorMemory is the maximum resident memory of a processor in KiB during an outage.
const maxProcessorMemory = 512 << 10

func TestProcessor_SummaryAPIOutage_OnlyDelaysEvents(t *testing.T) {
	length := outage
	if text := os.Getenv("PARKING_FAULTS_OUTAGE"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("PARKING_FAULTS_OUTAGE: %v", err)
		}
	}
	s := startSimulation(t, "-race")
	if err := s.pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.stack.Summaries.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	<-ctx.Done()
	for _, p := range s.stack.Processors {
		if held := residentMemory(t, p.Pid()); held > maxProcessorMemory {
			t.Errorf("%s holds %d KiB after an outage of %s, want at most %d", p.Name, held, length, maxProcessorMemory)
		}
	}
	if err := s.stack.Summaries.Start(); err != nil {
		t.Fatal(err)
	}
	s.auditAtRest(t)
}

// residentMemory returns the resident memory of a process in KiB. It is the field VmRSS in /proc/<pid>/status.
func residentMemory(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var held int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &held); n == 1 {
			return held
		}
	}
	t.Fatalf("the status of process %d has no VmRSS", pid)
	return 0
}
