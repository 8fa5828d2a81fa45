package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxRounds is the maximum number of times that one call of the function stop finds and stops further processes.
const maxRounds = 100

// processes is a list of processes of the target. A pidfd identifies each process, so that a signal cannot reach an
// unrelated process that has reused the PID.
type processes []*os.Process

// find returns the processes in whose mount namespace something is mounted at the path. It returns an error if there is
// no such process.
func find(path string) (processes, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return nil, err
	}
	var found processes
	denied := 0
	for _, mounts := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(mounts)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		// Call FindProcess first: its pidfd identifies the process even if another process reuses the PID later.
		p, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		switch marked, err := hasMount(mounts, path); {
		case errors.Is(err, os.ErrPermission):
			denied++
		case marked:
			found = append(found, p)
			continue
		}
		_ = p.Release() // Release closes the pidfd
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("found no process of the target in this pod; %d processes belong to other users and could not be examined: "+
			"run the agent and the target as the same user", denied)
	}
	return found, nil
}

// hasMount reports whether a file in the format of proc_pid_mountinfo(5) contains the mount point path. The path
// must not contain white space, which the file escapes.
func hasMount(mounts, path string) (bool, error) {
	text, err := os.ReadFile(mounts)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		const mountPoint = 4
		if fields := strings.Fields(line); len(fields) > mountPoint && fields[mountPoint] == path {
			return true, nil
		}
	}
	return false, nil
}

// stop suspends all processes of the target with SIGSTOP, including processes that the target starts during the call.
// It returns all suspended processes.
func stop(path string) (processes, error) {
	stopped := processes{}
	rounds, deadline := 0, time.Now().Add(effectTimeout)
	for {
		found, err := find(path)
		if err != nil {
			stopped.resume()
			return nil, err
		}
		fresh := found.without(stopped)
		if len(fresh) == 0 {
			if err := stopped.await("TtZX"); err != nil {
				stopped.resume()
				return nil, fmt.Errorf("SIGSTOP did not stop the target: %w", err)
			}
			return stopped, nil
		}
		suspended, err := fresh.suspend()
		stopped = append(stopped, suspended...)
		switch rounds++; {
		case errors.Is(err, os.ErrPermission) && time.Now().Before(deadline):
			// The command of a probe or a hook starts as root, and then changes its user.
			<-time.After(effectPoll)
			rounds, err = 0, nil
		case errors.Is(err, os.ErrPermission):
			err = fmt.Errorf("%w: the agent and the target must have the same user", err)
		case err == nil && rounds == maxRounds:
			err = errors.New("the target starts processes faster than the agent can stop them")
		}
		if err != nil {
			stopped.resume()
			return nil, fmt.Errorf("stop the processes of the target: %w", err)
		}
	}
}

// suspend sends SIGSTOP to the processes. It returns those that received the signal or have ended, and closes the pidfds
// of the others.
func (p processes) suspend() (suspended processes, err error) {
	for _, process := range p {
		if failure := (processes{process}).signal(syscall.SIGSTOP); failure != nil {
			err = errors.Join(err, failure)
			_ = process.Release() // Release closes the pidfd
			continue
		}
		suspended = append(suspended, process)
	}
	return suspended, err
}

// without returns the processes in the list p that are not in the list others. It closes the pidfds of the processes
// that it omits.
func (p processes) without(others processes) processes {
	known := map[int]bool{}
	for _, other := range others {
		known[other.Pid] = true
	}
	var rest processes
	for _, process := range p {
		if known[process.Pid] {
			_ = process.Release() // Release closes the pidfd
			continue
		}
		rest = append(rest, process)
	}
	return rest
}

// signal sends a signal to all processes. It ignores processes that have ended.
func (p processes) signal(s syscall.Signal) error {
	var errs []error
	for _, process := range p {
		if err := process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// resume sends SIGCONT to the processes that still exist.
func (p processes) resume() { _ = p.signal(syscall.SIGCONT) }

func (p processes) close() {
	for _, process := range p {
		_ = process.Release()
	}
}

// kill suspends all processes of the target, and then kills them. A suspended process cannot react to the end of
// another, for example by flushing data.
func kill(path string) (time.Time, error) {
	stopped, err := stop(path)
	if err != nil {
		return time.Time{}, err
	}
	defer stopped.close()
	at := time.Now()
	if err := stopped.signal(syscall.SIGKILL); err != nil {
		stopped.resume()
		return time.Time{}, fmt.Errorf("kill the processes of the target: %w", err)
	}
	if err := stopped.await("ZX"); err != nil {
		return time.Time{}, fmt.Errorf("SIGKILL did not end the target: %w", err)
	}
	return at, nil
}

const (
	// effectTimeout is the maximum time that processes may take to change their state after a signal, or to change to
	// the user of the target.
	effectTimeout = 3 * time.Second
	// effectPoll is the interval at which the states of the processes are read.
	effectPoll = 2 * time.Millisecond
)

// await waits until each process has ended or is in one of the given states. The states are letters as in
// proc_pid_stat(5).
func (p processes) await(states string) error {
	deadline := time.Now().Add(effectTimeout)
	for _, process := range p {
		for {
			state := stateOf(process.Pid)
			if state == "" || strings.Contains(states, state) {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d is still in state %s after %s", process.Pid, state, effectTimeout)
			}
			<-time.After(effectPoll)
		}
	}
	return nil
}

// stateOf returns the state of a process as one letter, or "" if the process has ended.
func stateOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The state follows the program name, which is in parentheses and may itself contain parentheses.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

// Resume sends SIGCONT to all processes of the target, in case an earlier agent crashed while the target was paused.
func Resume(path string) {
	found, err := find(path)
	if err != nil {
		return // there is no process to resume
	}
	found.resume()
	found.close()
}
