package privateserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type command struct {
	root   string // directory to chroot to; empty for none
	path   string // absolute path of the program inside root
	args   []string
	env    []string
	dir    string // absolute path of the working directory inside root
	output io.Writer
	owner  *owner // user to run as; nil for the user of this process
}

func (c command) build() *exec.Cmd {
	cmd := exec.Command(c.path, c.args...) //nolint:noctx // the process outlives the context of its start
	cmd.Env = c.env
	cmd.Dir = c.dir
	cmd.Stdout = c.output
	cmd.Stderr = c.output
	cmd.SysProcAttr = childAttributes(c.root, c.owner)
	return cmd
}

// process is a child process that has its own process group.
type process struct {
	pid    int
	exited chan struct{} // closed when the child has ended
	err    error         // the error of Wait; valid after the channel named exited is closed
}

// start starts the program. The starting goroutine stays locked to its thread, because the kernel kills the child when
// this thread ends; see childAttributes.
func (c command) start() (*process, error) {
	p := &process{exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd := c.build()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", c.path, err)
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// running reports whether the child is running. A child that has ended counts as running until it is reaped. running
// returns false if p is nil.
func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends a signal to the child, but not to its descendants.
func (p *process) signal(sig syscall.Signal) error {
	if !p.running() {
		return errors.New("the server is not running")
	}
	return syscall.Kill(p.pid, sig)
}

// signalTree signals the child, its process group and all descendants. Some descendants, such as helpers of an
// Erlang node, are not in the group.
func (p *process) signalTree(sig syscall.Signal) error {
	if !p.running() {
		return nil
	}
	tree := Descendants(p.pid)
	err := ignoreGone(syscall.Kill(-p.pid, sig))
	for _, pid := range tree {
		err = errors.Join(err, ignoreGone(syscall.Kill(pid, sig)))
	}
	return err
}

// kill kills the child and all descendants, and waits until they have ended. It does nothing if the child has ended.
// A server cannot start while one of them still holds memory or files.
func (p *process) kill() error {
	if !p.running() {
		return nil
	}
	tree := Descendants(p.pid)
	if err := p.signalTree(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	<-p.exited
	timeout := time.After(killTimeout)
	for slices.ContainsFunc(tree, isRunning) {
		select {
		case <-time.After(pollInterval):
		case <-timeout:
			return fmt.Errorf("kill process %d: a descendant still runs after %s", p.pid, killTimeout)
		}
	}
	return nil
}

// killTimeout is how long the method kill waits for the descendants of a killed process to end.
const killTimeout = 30 * time.Second

// isRunning reports whether a process has not ended. A zombie, whose parent has not reaped it yet, does not count as
// running.
func isRunning(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// Descendants returns the process IDs of all descendants of a process. It reads them from /proc. On systems without
// /proc, it returns no process IDs.
func Descendants(pid int) []int {
	children := map[int][]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	for _, path := range stats {
		if child, parent, ok := readParent(path); ok {
			children[parent] = append(children[parent], child)
		}
	}
	found := slices.Clone(children[pid])
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

// readParent reads the IDs of a process and its parent from /proc/<pid>/stat.
func readParent(path string) (pid, parent int, ok bool) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	text := string(stat)
	// The process name before the last parenthesis may itself contain parentheses.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0, 0, false
	}
	pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	if err != nil {
		return 0, 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return pid, parent, err == nil
}
