package privateserver

import "syscall"

// childAttributes gives a child its own process group, so that Ctrl-C reaches only the tests. The kernel kills the child
// when its parent ends.
func childAttributes(root string) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: root}
}
