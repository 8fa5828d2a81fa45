package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// supervisor starts the processes of a node and reaps all processes that end. Each process has its own log file.
type supervisor struct {
	logs string
	// failed receives an error when a started process ends.
	failed chan error

	mu    sync.Mutex
	names map[int]string // the names of the processes, by process ID
}

func newSupervisor(logs string) *supervisor {
	s := &supervisor{logs: logs, failed: make(chan error, 1), names: map[int]string{}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	go func() {
		for range signals {
			s.reap()
		}
	}()
	return s
}

// start starts a program. A program in the directory nodeBin takes precedence over a program in PATH.
func (s *supervisor) start(name string, arguments ...string) error {
	log, err := os.Create(filepath.Join(s.logs, name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	program := filepath.Join(nodeBin, name)
	if _, err := os.Stat(program); err != nil {
		program = name
	}
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=" + nodeBin + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + nodeState}
	s.mu.Lock() // s.names must contain the new process before s.reap handles its end
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.names[cmd.Process.Pid] = name
	return nil
}

// signal sends a signal to the process that runs the program with the given name.
func (s *supervisor) signal(name string, signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pid, n := range s.names {
		if n == name {
			return syscall.Kill(pid, signal)
		}
	}
	return fmt.Errorf("%s is not running", name)
}

// reap reaps all child processes that have ended. This process is PID 1 of its namespace, so the kernel makes orphaned
// processes its children.
func (s *supervisor) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
		name, started := s.names[pid]
		if !started {
			continue
		}
		delete(s.names, pid)
		select {
		case s.failed <- fmt.Errorf("%s ended with %s: see %s.log", name, describe(status), name):
		default:
		}
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("code %d", status.ExitStatus())
}

// await calls check repeatedly until it returns nil, a started process ends, or a timeout expires.
func (s *supervisor) await(ctx context.Context, check func(context.Context) error) error {
	const timeout, interval = 2 * time.Minute, 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case failure := <-s.failed:
			return failure
		case <-ctx.Done():
			return fmt.Errorf("the component is not ready after %s: %w", timeout, err)
		}
	}
}

// wait blocks until a started process ends or ctx is done.
func (s *supervisor) wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
