// Package stack runs the processes of a simulation as a user would, the real binary with its real
// flags, for the tests and benchmarks that watch them from outside.
package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/parking-operator/parking-operator/test/servers"
)

// Process is one running process of the simulation. It can be killed and started again with the same
// arguments and the same address.
type Process struct {
	Name string

	// address is where the process serves HTTP; it is the process's as long as this is referred to.
	address *servers.Address
	binary  string
	args    []string
	log     string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

// newProcess prepares a process that runs the binary with args and the flag --http on a free loopback
// port. Its output is appended to <dir>/<name>.log.
func newProcess(binary, dir, name string, args ...string) (*Process, error) {
	address, err := servers.ReserveAddress()
	if err != nil {
		return nil, err
	}
	return &Process{
		Name:    name,
		address: address,
		binary:  binary,
		args:    append(args, "--http", address.String()),
		log:     filepath.Join(dir, name+".log"),
	}, nil
}

// URL returns the address of a path that the process serves.
func (p *Process) URL(path string) string { return "http://" + p.address.String() + path }

// Log is the path of the file that holds the process's output.
func (p *Process) Log() string { return p.log }

// Pid is the process's, or 0 when it does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Start runs the process.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return fmt.Errorf("start %s: it is running", p.Name)
	}
	output, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer func() { _ = output.Close() }() // the child has its own copy
	cmd := exec.Command(p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(done)
	}()
	p.cmd, p.done = cmd, done
	return nil
}

// WaitReady polls /readyz until the process says that it is ready.
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

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	_, err := p.end(context.Background(), syscall.SIGKILL)
	return err
}

// Terminate asks the process to end with SIGTERM, waits for it, and returns its exit code.
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
