package privateserver

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// daemon is a server process that can be stopped, killed, paused and started again. Its methods are not safe
// for concurrent use.
type daemon struct {
	// launch starts the program and returns when clients can connect.
	launch  func(context.Context) error
	process *process // the current process, or the last one
}

// Start starts a stopped or killed server with the same data, and returns when clients can connect. It does nothing when
// the server is running.
func (d *daemon) Start(ctx context.Context) error {
	if d.process.running() {
		return nil
	}
	return d.launch(ctx)
}

// Stop sends SIGTERM to the server and returns when it has ended. If the server does not end in time, Stop kills it and
// returns an error.
func (d *daemon) Stop(ctx context.Context) error {
	p := d.process
	if !p.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop process %d: %w", p.pid, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("process %d did not stop in time and was killed: %w", p.pid, ctx.Err()), p.kill())
	}
}

// Kill sends SIGKILL to the server and its child processes, which is like a crash, and returns when they have
// ended. Messages that RabbitMQ has confirmed survive, unless their queue was declared seconds ago: see
// SyncQueues.
func (d *daemon) Kill() error { return d.process.kill() }

// Restart stops the server and starts it again.
func (d *daemon) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.Start(ctx)
}

// Pause sends SIGSTOP to the server. To its clients this looks like a network partition: connections stay open and get
// no answer.
func (d *daemon) Pause() error { return d.process.signal(syscall.SIGSTOP) }

// Resume ends the effect of Pause.
func (d *daemon) Resume() error { return d.process.signal(syscall.SIGCONT) }

// PID returns the process id of the server. If the server is not running, it returns that of its last process.
func (d *daemon) PID() int { return d.process.pid }

// Running reports whether the server process is running.
func (d *daemon) Running() bool { return d.process.running() }
