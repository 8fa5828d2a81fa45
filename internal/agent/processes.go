package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// maxRounds bounds how often a group of processes is searched for processes that it started meanwhile.
const maxRounds = 100

// processes are the processes of the target that ran at one moment. They are held by their pidfd, so that a signal never
// reaches another process that has got the same number since.
type processes []*os.Process

// find returns the processes whose environment has the marker, such as "PARKING_FAULT_TARGET=redis". Children inherit
// it, so these are all processes of the container that was started with it, unless one of them has changed its
// environment. An empty result is an error.
func find(marker string) (processes, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	var found processes
	denied := 0
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := os.FindProcess(pid) // before its environment is read, so that the handle belongs to what was read
		if err != nil {
			continue // it has ended
		}
		switch marked, err := hasVariable(path, marker); {
		case errors.Is(err, os.ErrPermission):
			denied++
		case marked:
			found = append(found, p)
			continue
		}
		_ = p.Release() // closes the handle
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no process of the target runs in this pod (%d processes of other users were not examined): "+
			"the agent and the target must have the same user", denied)
	}
	return found, nil
}

// hasVariable reports whether an environment, as /proc shows it, has a variable with its value.
func hasVariable(path, variable string) (bool, error) {
	environment, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	for entry := range bytes.SplitSeq(environment, []byte{0}) {
		if string(entry) == variable {
			return true, nil
		}
	}
	return false, nil
}

// stop stops all processes of the target, including those that they start meanwhile, and returns them.
func stop(marker string) (processes, error) {
	stopped := processes{}
	for range maxRounds {
		found, err := find(marker)
		if err != nil {
			stopped.resume()
			return nil, err
		}
		fresh := found.without(stopped)
		if len(fresh) == 0 {
			return stopped, nil
		}
		if err := fresh.signal(syscall.SIGSTOP); err != nil {
			stopped.resume()
			fresh.resume()
			return nil, fmt.Errorf("stop the processes of the target: %w", err)
		}
		stopped = append(stopped, fresh...)
	}
	stopped.resume()
	return nil, errors.New("stop the processes of the target: it starts processes faster than they can be stopped")
}

// without returns the processes that others does not have. It releases the rest.
func (p processes) without(others processes) processes {
	known := map[int]bool{}
	for _, other := range others {
		known[other.Pid] = true
	}
	var rest processes
	for _, process := range p {
		if known[process.Pid] {
			_ = process.Release() // closes the handle
			continue
		}
		rest = append(rest, process)
	}
	return rest
}

// signal sends a signal to all processes. A process that has ended is not an error.
func (p processes) signal(s syscall.Signal) error {
	var errs []error
	for _, process := range p {
		if err := process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// resume lets stopped processes run again, as far as they still exist.
func (p processes) resume() { _ = p.signal(syscall.SIGCONT) }

// release closes the handles.
func (p processes) release() {
	for _, process := range p {
		_ = process.Release() // closes the handle
	}
}

// kill ends all processes of the target at once. They are stopped before, so that none of them notices the end of
// another one, and flushes something.
func kill(marker string) (time.Time, error) {
	stopped, err := stop(marker)
	if err != nil {
		return time.Time{}, err
	}
	defer stopped.release()
	at := time.Now()
	if err := stopped.signal(syscall.SIGKILL); err != nil {
		stopped.resume()
		return time.Time{}, fmt.Errorf("kill the processes of the target: %w", err)
	}
	return at, nil
}

// Resume lets all processes of the target run again that a predecessor of this agent may have stopped.
func Resume(marker string) {
	found, err := find(marker)
	if err != nil {
		return // the target does not run
	}
	found.resume()
	found.release()
}
