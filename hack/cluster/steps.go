package main

import (
	"fmt"
	"io"
	"time"
)

// steps prints what is being done and how long each part of it took.
type steps struct {
	out   io.Writer
	start time.Time
}

func newSteps(out io.Writer) *steps { return &steps{out: out, start: time.Now()} }

// do runs one step.
func (s *steps) do(name string, step func() error) error {
	fmt.Fprintf(s.out, "%-58s", name+" …")
	start := time.Now()
	err := step()
	if err != nil {
		fmt.Fprintln(s.out, "failed")
		return err
	}
	fmt.Fprintf(s.out, "%6.1f s\n", time.Since(start).Seconds())
	return nil
}

func (s *steps) total() time.Duration { return time.Since(s.start) }
