package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// steps prints the progress of long steps, in the format of hack/step.sh. Several steps can run at the same time.
type steps struct {
	repository string
	out        io.Writer
	every      time.Duration // the time between two progress lines
	start      time.Time
	mu         sync.Mutex
}

func newSteps(repository string, out io.Writer) *steps {
	return &steps{repository: repository, out: out, every: 10 * time.Second, start: time.Now()}
}

// do runs a step and prints its progress. The parameter what is the name of the step. The parameter usually is the
// usual duration of the step, such as "7 min".
func (s *steps) do(what, usually string, step func() error) error {
	s.printf("==> %s (usually %s)\n", what, usually)
	start := time.Now()
	done := make(chan struct{})
	var progress sync.WaitGroup
	progress.Go(func() {
		ticker := time.NewTicker(s.every)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				s.printf("    … %s: %.0f s\n", what, time.Since(start).Seconds())
			}
		}
	})
	err := step()
	close(done)
	progress.Wait() // otherwise, a progress line could follow the result
	if err != nil {
		s.printf("==> %s: failed after %.0f s\n", what, time.Since(start).Seconds())
		return err
	}
	s.printf("==> %s: done in %.0f s\n", what, time.Since(start).Seconds())
	return nil
}

// run runs a command as one step. It prints the output of the command only if the command fails.
func (s *steps) run(ctx context.Context, what, usually string, cmd *exec.Cmd) error {
	step := exec.CommandContext(ctx, filepath.Join(s.repository, "hack", "step.sh"), append([]string{"-q", what, usually}, cmd.Args...)...)
	step.Dir, step.Env, step.Stdin = cmd.Dir, cmd.Env, cmd.Stdin
	step.Stdout, step.Stderr = s, s
	if err := step.Run(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Write prints the output of a step. Several steps can call Write at the same time.
func (s *steps) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func (s *steps) printf(format string, args ...any) { fmt.Fprintf(s, format, args...) }

func (s *steps) total() time.Duration { return time.Since(s.start) }
