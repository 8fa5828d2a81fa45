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

// supervisor starts the processes of a node, each with a log of its own, and reaps whatever process ends.
type supervisor struct {
	logs string
	// failed gets the first of the started processes that ended.
	failed chan error

	mu    sync.Mutex
	names map[int]string // by process
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

// start starts a program of the node.
func (s *supervisor) start(name string, arguments ...string) error {
	log, err := os.Create(filepath.Join(s.logs, name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(filepath.Join(nodeBin, name), arguments...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=" + nodeBin + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + nodeState}
	s.mu.Lock() // until its name is known, nobody reaps it
	defer s.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.names[cmd.Process.Pid] = name
	return nil
}

// reap takes note of every process that ended. The first process of a PID namespace inherits those that
// others leave behind.
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
		name, ours := s.names[pid]
		if !ours {
			continue
		}
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

// until waits until a check passes or a process ends.
func (s *supervisor) until(ctx context.Context, check func(context.Context) error) error {
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
			return fmt.Errorf("waited for %s: %w", timeout, err)
		}
	}
}

// wait returns when a process ends or the context does.
func (s *supervisor) wait(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}
