package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestEffortOf_ThisProcess_CountsSystemCallsAndContextSwitches(t *testing.T) {
	before, err := effortOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const calls, naps = 200, 200
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for range calls / 2 {
		if _, err := file.WriteAt([]byte{1}, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := file.ReadAt(make([]byte, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
	onOtherThread(func() {
		for range naps {
			_ = syscall.Nanosleep(&syscall.Timespec{Nsec: 1000}, nil) // a signal may end the sleep early
		}
	})
	after, err := effortOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for m, want := range map[measure]float64{ioCalls: calls, switches: naps / 2, cpuMicros: 0} {
		if _, ok := after[m]; !ok {
			t.Logf("this kernel does not provide %s", m)
			continue
		}
		if got := after[m] - before[m]; got < want {
			t.Errorf("%g %s, want at least %g", got, m, want)
		}
	}
}

// onOtherThread calls f in a thread that is not the main thread.
func onOtherThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if syscall.Gettid() == os.Getpid() {
			onOtherThread(f) // this goroutine occupies the main thread, so the new goroutine gets another thread
			return
		}
		f()
	}()
	<-done
}

func TestReadEffort_MissingOrIncompleteFiles_OmitsTheirMeasures(t *testing.T) {
	dir := t.TempDir()
	for _, thread := range []string{"1", "2"} {
		if err := os.MkdirAll(filepath.Join(dir, "task", thread), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := func(name string) string {
		t.Helper()
		text, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if _, err := readEffort(dir); err == nil {
		t.Error("no error without the file stat")
	}
	write("stat", own("stat"))
	status, _, _ := strings.Cut(own("status"), "voluntary_ctxt_switches:")
	write("task/1/status", status)
	write("task/2/status", status)
	e, err := readEffort(dir)
	if _, ok := e[cpuMicros]; err != nil || !ok || len(e) != 1 {
		t.Errorf("without counters: got %v, %v, want only the CPU time", e, err)
	}
	write("io", "rchar: 900\nsyscr: 30\nsyscw: 4\n")
	for _, thread := range []string{"1", "2"} {
		write("task/"+thread+"/status", status+"voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t1\n")
	}
	e, err = readEffort(dir)
	if err != nil || e[ioCalls] != 34 || e[switches] != 12 {
		t.Errorf("with counters: got %v, %v, want 34 calls and 12 switches", e, err)
	}
}

func TestEffortPerEvent_SubtractsTheEarlierMeasurement(t *testing.T) {
	earlier, later := effort{ioCalls: 10}, effort{ioCalls: 30, commands: 5}
	got := later.perEvent(earlier, 10)
	if len(got) != 2 || got[ioCalls] != 2 || got[commands] != .5 {
		t.Errorf("got %v, want 2 calls and half a command", got)
	}
}
