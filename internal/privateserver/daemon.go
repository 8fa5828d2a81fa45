package privateserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
)

// daemon is a server process that can be stopped, killed, paused, and started again. Its methods are not safe
// for concurrent use.
type daemon struct {
	// launch starts the program. It returns when clients can connect.
	launch  func(context.Context) error
	process *process // the latest process, which may have ended
	// stopSignal is the signal that makes the server stop. The zero value is SIGTERM.
	stopSignal syscall.Signal
}

// Start starts a stopped or killed server with its former data, and returns when clients can connect. Start does
// nothing if the server is running.
func (d *daemon) Start(ctx context.Context) error {
	if d.process.running() {
		return nil
	}
	return d.launch(ctx)
}

// Stop asks the server to stop, and returns when the server has ended. If the server does not end in time, Stop kills
// it and returns an error.
func (d *daemon) Stop(ctx context.Context) error {
	p := d.process
	if !p.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := p.signal(cmp.Or(d.stopSignal, syscall.SIGTERM)); err != nil {
		return fmt.Errorf("stop process %d: %w", p.pid, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("process %d did not stop in time and was killed: %w", p.pid, ctx.Err()), p.kill())
	}
}

// Kill simulates a crash with SIGKILL and returns when all processes of the server have ended. RabbitMQ can lose
// confirmed messages of queues that are a few seconds old; see SyncQueues.
func (d *daemon) Kill() error { return d.process.kill() }

// Restart stops the server and starts it again.
func (d *daemon) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.Start(ctx)
}

// Pause sends SIGSTOP to the server. For clients, this is like a network partition: connections stay open, but
// the server does not answer.
func (d *daemon) Pause() error { return d.process.signal(syscall.SIGSTOP) }

// Resume makes a paused server continue.
func (d *daemon) Resume() error { return d.process.signal(syscall.SIGCONT) }

// PID returns the process ID of the server. If the server is not running, it returns the process ID that the
// server had last.
func (d *daemon) PID() int { return d.process.pid }

// Running reports whether the server process is running.
func (d *daemon) Running() bool { return d.process.running() }
