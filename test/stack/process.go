// Package stack runs the processes of a simulation as a user does, with the real binary and its flags, for tests that
// observe the processes from outside.
package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/parking-operator/parking-operator/test/servers"
)

// Process is one process of a simulation. It can be killed and started again with the same arguments and address.
type Process struct {
	Name string

	// address is the reserved address at which the process serves HTTP.
	address *servers.Address
	binary  string
	args    []string
	log     string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// NewProcess returns a process that is not started yet. The process serves HTTP at a free loopback address, and
// appends its output to <dir>/<name>.log.
func NewProcess(binary, dir, name string, args ...string) (*Process, error) {
	address, err := servers.ReserveAddress()
	if err != nil {
		return nil, err
	}
	return &Process{
		Name:    name,
		address: address,
		binary:  binary,
		args:    slices.Concat(args, []string{"--http", address.String()}),
		log:     filepath.Join(dir, name+".log"),
	}, nil
}

// URL returns the URL of a path on the HTTP server of the process.
func (p *Process) URL(path string) string { return "http://" + p.address.String() + path }

// Log returns the path of the log file of the process.
func (p *Process) Log() string { return p.log }

// Pid returns the process ID, or 0 if the process is not running.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Start starts the process. It does not wait until the process is ready.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("start %s: it is already running", p.Name)
	}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer func() { _ = output.Close() }() // the child process has its own descriptor of the log file
	cmd := exec.Command(p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // ignore the error: the method end reads the exit code
		close(done)
	}()
	p.cmd, p.done = cmd, done
	return nil
}

// WaitReady polls the path /readyz until the process is ready.
func (p *Process) WaitReady(ctx context.Context) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if p.answersOK(ctx, "/readyz") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to be ready: %w; its output is in %s", p.Name, ctx.Err(), p.log)
		case <-ticker.C:
		}
	}
}

func (p *Process) answersOK(ctx context.Context, path string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL(path), http.NoBody)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Kill sends SIGKILL to the process and waits until it has ended.
func (p *Process) Kill() error {
	_, err := p.end(context.Background(), syscall.SIGKILL)
	return err
}

// Terminate sends SIGTERM to the process, waits until it has ended, and returns its exit code.
func (p *Process) Terminate(ctx context.Context) (int, error) {
	return p.end(ctx, syscall.SIGTERM)
}

func (p *Process) end(ctx context.Context, signal syscall.Signal) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0, nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, fmt.Errorf("signal %s: %w", p.Name, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for %s to end: %w; its output is in %s", p.Name, ctx.Err(), p.log)
	}
	code := p.cmd.ProcessState.ExitCode()
	p.cmd = nil
	return code, nil
}
