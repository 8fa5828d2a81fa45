package servers

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
)

// command says which program to run and how.
type command struct {
	root   string // folder to chroot to; empty for none
	path   string // absolute, as seen from root
	args   []string
	env    []string
	dir    string // working directory, as seen from root
	output io.Writer
}

func (c command) build() *exec.Cmd {
	cmd := exec.Command(c.path, c.args...)
	cmd.Env = c.env
	cmd.Dir = c.dir
	cmd.Stdout = c.output
	cmd.Stderr = c.output
	cmd.SysProcAttr = childAttributes(c.root)
	return cmd
}

// process is a running child with a process group of its own.
type process struct {
	pid    int
	exited chan struct{} // closed when the child has been reaped
	err    error         // why it ended; valid after exited is closed
}

// start runs c in the background. The thread that starts it waits for it too: the kernel sends a
// child's parent-death signal when the parent's thread ends, so that thread must outlive the child.
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

// running reports whether the child has not been reaped yet. A nil process is not running.
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

// signal sends sig to the child alone.
func (p *process) signal(sig syscall.Signal) error {
	if !p.running() {
		return errors.New("the server is not running")
	}
	return syscall.Kill(p.pid, sig)
}

// signalTree sends sig to the child, its process group and its descendants: some of them, such as
// the helpers of an Erlang node, leave the group.
func (p *process) signalTree(sig syscall.Signal) error {
	if !p.running() {
		return nil
	}
	tree := descendants(p.pid)
	err := ignoreGone(syscall.Kill(-p.pid, sig))
	for _, pid := range tree {
		err = errors.Join(err, ignoreGone(syscall.Kill(pid, sig)))
	}
	return err
}

// kill ends the tree with SIGKILL and returns when the child is gone.
func (p *process) kill() error {
	if !p.running() {
		return nil
	}
	if err := p.signalTree(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	<-p.exited
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// descendants lists the processes below pid, from /proc; it is empty where there is no /proc.
func descendants(pid int) []int {
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

// readParent reads a process's id and its parent's from its stat file. The second field, the name
// in parentheses, may hold spaces and parentheses itself, hence the search for the last one.
func readParent(path string) (pid, parent int, ok bool) {
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false
	}
	text := string(stat)
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
