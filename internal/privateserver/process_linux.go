package privateserver

import "syscall"

// childAttributes puts a child into its own process group, so that Ctrl-C reaches only the test process. The
// kernel kills the child when its parent ends.
func childAttributes(root string) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: root}
}
