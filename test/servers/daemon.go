package servers

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// daemon is a server that can be broken and mended. Its methods are not safe for concurrent use.
type daemon struct {
	// launch starts the program and returns when clients can connect.
	launch  func(context.Context) error
	process *process // the one that runs, or ran last
}

// Start starts the server that was stopped or killed, with the data it had, and returns when clients can
// connect. A server that runs is left alone.
func (d *daemon) Start(ctx context.Context) error {
	if d.process.running() {
		return nil
	}
	return d.launch(ctx)
}

// Stop shuts the server down in order and returns when it is gone. One that does not end in time is killed,
// which is an error.
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

// Kill ends the server and its helpers with SIGKILL, as a crash would, and returns when they are gone. What a
// broker confirmed survives, with the exception that SyncQueues removes.
func (d *daemon) Kill() error { return d.process.kill() }

// Restart stops the server and starts it again.
func (d *daemon) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.Start(ctx)
}

// Pause freezes the server, as a network partition would look to a client: connections stay open and nothing
// answers.
func (d *daemon) Pause() error { return d.process.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (d *daemon) Resume() error { return d.process.signal(syscall.SIGCONT) }

// PID is the process id of the server that runs, or ran last.
func (d *daemon) PID() int { return d.process.pid }
